"""What the trained networks of a run can do: energy errors, a denoising trajectory, a sweep of the guidance weight."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from pymatgen.core import Structure

from nanh2lib.crystal.encoding import ZLayout
from nanh2lib.crystal.expansion import expand
from nanh2lib.crystal.subunits import from_subunits
from nanh2lib.diffusion.fit import split_rows
from nanh2lib.diffusion.models import EnergyModel
from nanh2lib.diffusion.sampling import Samples, mean_distance, sample
from nanh2lib.energy.labels import EnergyResult, LabelSettings, label_structures
from nanh2lib.errors import CheckpointError, InputError
from nanh2lib.pipeline.model import decode_samples, load_models, training_set
from nanh2lib.pipeline.run import Run
from nanh2lib.pipeline.search import compound_of
from nanh2lib.search.push_apart import push_apart
from nanh2lib.validation import validate

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class EnergyParity:
    """Energies of the training set, and what the energy model makes of them.

    Attributes
    ----------
    reference, predicted : ndarray, shape (N,)
        eV per formula unit.
    training, validation : ndarray of int
        Row numbers.
    mean : float
        Mean over the training rows: the prediction of a model that learned nothing.
    """

    reference: FloatArray
    predicted: FloatArray
    training: NDArray[np.int64]
    validation: NDArray[np.int64]
    mean: float


def energy_parity(run: Run) -> EnergyParity:
    """Compare the run's energy model with the labels it was trained on.

    Raises
    ------
    CheckpointError
        Not trained yet, or without an energy model.
    """
    data, model = training_set(run), _energy_model(run)
    rows = split_rows(len(data), model.settings.validation_fraction, model.settings.seed)
    numbers = torch.tensor([model.library.number_of(template) for template in data.templates])
    training, validation = (part.numpy().astype(np.int64) for part in rows)
    reference = data.energies.numpy()
    predicted = model.predict(data.z, data.mask, numbers).numpy()
    return EnergyParity(reference, predicted, training, validation, float(reference[training].mean()))


def _energy_model(run: Run) -> EnergyModel:
    model = load_models(run).energy
    if model is None:
        raise CheckpointError(f"{run.directory}: the checkpoint has no energy model; train again")
    return model


def trajectory_frames(run: Run, samples: Samples, row: int) -> list[tuple[int, Structure]]:
    """One sample while it is denoised: timestep and crystal of each snapshot that can be decoded.

    Parameters
    ----------
    run : Run
    samples : Samples
        Drawn with ``snapshots``.
    row : int

    Returns
    -------
    list of (int, Structure)
        From noise to crystal; timestep -1 is the finished sample.

    Raises
    ------
    InputError
        The samples were drawn without snapshots or without templates.
    """
    template = samples.templates[int(samples.template_index[row])]
    if samples.trajectory is None or template is None:
        raise InputError("these samples have no trajectory; draw them with snapshots=8 from a model with templates")
    scheme = run.config.training.scheme
    layout = ZLayout.for_templates([template], scheme)
    frames = []
    for timestep, state in zip(samples.trajectory_timesteps, samples.trajectory, strict=True):
        z = state[row][samples.mask[row]][None]
        if bool(layout.decodable(z)[0]):
            unit = layout.decode(z, template)
            frames.append((timestep, expand(from_subunits(unit) if scheme == "paper" else unit)[0]))
    return frames


def noised_crystals(run: Run, row: int, timesteps: Sequence[int], seed: int) -> list[Structure]:
    """One crystal of the training set after the forward process has run to each timestep.

    Parameters
    ----------
    run : Run
        Trained.
    row : int
        In the training set.
    timesteps : sequence of int
        0 to T - 1; -1 is the crystal itself.
    seed : int
        Of the one noise vector that all timesteps share.

    Returns
    -------
    list of Structure

    Raises
    ------
    InputError
        The noised cell spans no volume.
    """
    data, model = training_set(run), load_models(run).noise
    template, mask = data.templates[row], data.mask[row][None]
    schedule = model.settings.noise_schedule()
    clean = model.statistics.standardize(data.z[row][None], mask)
    moving = model.diffused[model.library.number_of(template)][None]
    noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(seed), dtype=clean.dtype)
    scheme = run.config.training.scheme
    layout = ZLayout.for_templates([template], scheme)
    crystals = []
    for timestep in timesteps:
        noised = clean if timestep < 0 else schedule.add_noise(clean, noise, torch.tensor([timestep]))
        z = model.statistics.restore(torch.where(moving, noised, clean), mask)
        unit = layout.decode(z[:, mask[0]], template)
        crystals.append(expand(from_subunits(unit) if scheme == "paper" else unit)[0])
    return crystals


@dataclass(frozen=True)
class GuidanceResult:
    """Samples at one guidance weight.

    Attributes
    ----------
    weight : float
    predicted_energy : float
        Mean over the samples, by the energy model, eV per formula unit.
    predicted_spread : float
        Standard error of that mean.
    energy : float
        Mean by the run's potential over samples that were pushed apart and pass; NaN without any.
    energy_spread : float
        Standard error of that mean.
    valid, valid_pushed : float
        Share that passes the filters as decoded, and after push-apart.
    diversity : float
        Mean distance between samples on one template, in spreads of the training set.
    count, labelled : int
        Samples, and those with an energy by the potential.
    """

    weight: float
    predicted_energy: float
    predicted_spread: float
    energy: float
    energy_spread: float
    valid: float
    valid_pushed: float
    diversity: float
    count: int
    labelled: int


def guidance_study(run: Run, weights: Sequence[float], count: int, labels: int) -> list[GuidanceResult]:
    """Sample at several guidance weights from the same noise, and measure energy, validity and diversity together.

    Parameters
    ----------
    run : Run
        Trained.
    weights : sequence of float
    count : int
        Samples at each weight.
    labels : int
        So many of the pushed and accepted samples of each weight get an energy from the run's potential.

    Returns
    -------
    list of GuidanceResult
    """
    return [_one_weight(run, float(weight), count, labels) for weight in weights]


def _one_weight(run: Run, weight: float, count: int, labels: int) -> GuidanceResult:
    models, model = load_models(run), _energy_model(run)
    changes = {"seed": run.config.seed, "guidance_scale": weight, "count": count}
    samples = sample(models, run.config.sampling.model_copy(update=changes), progress=False)
    predicted = model.predict(samples.z, samples.mask, samples.template_index).numpy()
    valid, passed = 0, []
    for unit, _ in decode_samples(run, samples):
        valid += sum(report.passed for report in validate(unit, run.config.validation))
        singles = [unit[i] for i in range(len(unit))]
        pushed = push_apart(singles, run.config.search.limits(), run.config.search.push).units
        reports = validate(list(pushed), run.config.validation)
        passed += [expand(one)[0] for one, report in zip(pushed, reports, strict=True) if report.passed]
    energies = _energies(run, passed[:: max(1, len(passed) // max(labels, 1))][:labels])
    return GuidanceResult(
        weight=weight,
        predicted_energy=float(predicted.mean()),
        predicted_spread=_standard_error(predicted),
        energy=float(energies.mean()) if len(energies) else float("nan"),
        energy_spread=_standard_error(energies),
        valid=valid / count,
        valid_pushed=len(passed) / count,
        diversity=mean_distance(samples.z, samples.mask, model.statistics.scale),
        count=count,
        labelled=len(energies),
    )


def _energies(run: Run, structures: Sequence[Structure]) -> FloatArray:
    settings = LabelSettings(potential=run.config.label.potential)
    labels = label_structures(list(structures), settings, compound=compound_of(run), progress=False)
    return np.array([label.energy_per_fu for label in labels.values() if isinstance(label, EnergyResult)])


def _standard_error(values: FloatArray) -> float:
    return float(values.std(ddof=1) / np.sqrt(len(values))) if len(values) > 1 else float("nan")

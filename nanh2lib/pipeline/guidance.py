"""What guidance and fast solvers do to the samples of a run: denoising of one crystal, sweeps, comparisons."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from pymatgen.core import Structure
from torch import Tensor

from nanh2lib.crystal.expansion import expand
from nanh2lib.diffusion.models import EnergyModel, NoiseModel, PaperModels
from nanh2lib.diffusion.sampling import Samples, mean_distance, sample
from nanh2lib.errors import InputError
from nanh2lib.pipeline.labels import energies_of
from nanh2lib.pipeline.model import decode_samples, load_models, method_name
from nanh2lib.pipeline.run import Run
from nanh2lib.pipeline.search import candidates_of
from nanh2lib.records import Candidate
from nanh2lib.validation import shortest_contacts, validate

LIMIT_SCALES = (1.0, 0.7)
"""Factors on the contact limits at which validity is counted."""


def draw_with(run: Run, **changes: Any) -> Samples:
    """Draw with the run's models and sampling settings, some of them changed; the seed is the run's.

    Parameters
    ----------
    run : Run
    **changes
        Fields of `SamplingSettings`, e.g. ``guidance_scale=0.0, solver="ddim"``.

    Raises
    ------
    InputError
        A field does not exist or its value is out of range.
    """
    settings = run.config.sampling.model_dump() | {"seed": run.config.seed} | changes
    checked = type(run.config.sampling).from_mapping(settings, "sampling settings")
    return sample(load_models(run), checked, progress=run.progress)


def predicted_energies(models: PaperModels, samples: Samples, z: Tensor | None = None) -> Tensor:
    """Energies (N,) that the energy model gives to samples, eV per formula unit.

    Parameters
    ----------
    models : PaperModels
    samples : Samples
    z : Tensor, shape (N, D), optional
        Other vectors of the same samples, e.g. one snapshot of their trajectory.

    Raises
    ------
    InputError
        The models hold no energy model.
    """
    return _energy_model(models).predict(samples.z if z is None else z, samples.mask, samples.template_index)


def _energy_model(models: PaperModels) -> EnergyModel:
    if models.energy is None:
        raise InputError("these models hold no energy model; train one")
    return models.energy


def denoising_frames(run: Run, samples: Samples, row: int) -> tuple[list[Structure], list[int]]:
    """One sample as a crystal at each kept snapshot.

    Parameters
    ----------
    run : Run
        The run whose models drew the samples.
    samples : Samples
        With ``trajectory``.
    row : int
        Which sample.

    Returns
    -------
    structures : list of Structure
        From noise to crystal; snapshots whose lattice spans no cell are left out.
    timesteps : list of int
        Of each structure; -1 for the final one.

    Raises
    ------
    InputError
        No trajectory was kept, there is no such row, or the model knows no templates.
    """
    if samples.trajectory is None:
        raise InputError("denoising frames: no snapshots were kept; draw with snapshots=6, say")
    if not 0 <= row < len(samples):
        raise InputError(f"denoising frames: row {row} of {len(samples)} samples; give 0 to {len(samples) - 1}")
    structures, timesteps = [], []
    for z, timestep in zip(samples.trajectory, samples.trajectory_timesteps, strict=True):
        part = slice(row, row + 1)
        snapshot = replace(
            samples, z=z[part], mask=samples.mask[part], template_index=samples.template_index[part], trajectory=None
        )
        for unit, _ in decode_samples(run, snapshot):
            structures += expand(unit)
            timesteps.append(timestep)
    return structures, timesteps


def tightest_contacts(run: Run, samples: Samples) -> Tensor:
    """Tightest contact of each sample divided by its limit, shape (N,); 0 where z spans no cell.

    1 or more: all contact limits hold.
    """
    ratios = torch.zeros(len(samples), dtype=torch.float64)
    for unit, rows in decode_samples(run, samples):
        table = shortest_contacts(unit, run.config.validation.limits())
        ratios[rows] = (table.distances / table.limits).amin(-1)
    return ratios


def best_sample(run: Run, samples: Samples) -> int:
    """Row of the sample whose tightest contact is widest."""
    return int(tightest_contacts(run, samples).argmax())


@dataclass(frozen=True)
class SampleQuality:
    """What a set of samples is worth before any correction.

    Attributes
    ----------
    count, decoded : int
        Samples, and those whose lattice spans a cell.
    energies : Tensor, shape (N,)
        Predicted, eV per formula unit.
    valid : dict
        Samples that pass contacts, fragments and symmetry, by factor on the contact limits.
    failed : dict
        Samples that fail each check, at the full limits.
    closest : float
        Median over samples of the tightest contact divided by its limit.
    diversity : float
        Mean root-mean-square distance between two samples on one template, in standard deviations
        of the training columns; constant columns are left out.
    """

    count: int
    decoded: int
    energies: Tensor
    valid: dict[float, int]
    failed: dict[str, int]
    closest: float
    diversity: float

    @property
    def energy_interval(self) -> tuple[float, float]:
        """95 % interval of the mean predicted energy: 1.96 standard errors to both sides."""
        mean = float(self.energies.mean())
        half = 1.96 * float(self.energies.std()) / len(self.energies) ** 0.5
        return mean - half, mean + half


def sample_quality(run: Run, samples: Samples, scales: Sequence[float] = LIMIT_SCALES) -> SampleQuality:
    """Measure samples of a run: predicted energy, validity, closest contacts, diversity.

    Parameters
    ----------
    run : Run
    samples : Samples
        Two or more.
    scales : sequence of float
        Factors on the contact limits.
    """
    models = load_models(run)
    units = [unit for unit, _ in decode_samples(run, samples)]
    settings = run.config.validation
    valid: dict[float, int] = {}
    failed = {"contacts": 0, "fragments": 0, "symmetry": 0}
    for scale in scales:
        scaled = settings.model_copy(update={"limit_scale": settings.limit_scale * scale})
        reports = validate(units, scaled)
        valid[scale] = sum(report.passed for report in reports)
        if scale == 1.0:
            for check in (check for report in reports for check in report.checks if not check.passed):
                failed[check.name] = failed.get(check.name, 0) + 1
    return SampleQuality(
        count=len(samples),
        decoded=sum(len(unit) for unit in units),
        energies=predicted_energies(models, samples),
        valid=valid,
        failed=failed,
        closest=float(tightest_contacts(run, samples).median()),
        diversity=diversity_of(models.noise, samples),
    )


def diversity(model: NoiseModel, z: Tensor, mask: Tensor, template_index: Tensor) -> float:
    """Mean distance between vectors (N, D) on one template, see `SampleQuality`; NaN where no two share one.

    Pairs are weighted equally, whatever their template.
    """
    moving = model.diffused[template_index] & mask & ~model.statistics.constant
    total, pairs = 0.0, 0
    for number in torch.unique(template_index).tolist():
        rows = template_index == number
        size = int(rows.sum())
        if size > 1:
            mean = mean_distance(z[rows], moving[rows], model.statistics.scale, limit=size)
            total, pairs = total + mean * size * (size - 1), pairs + size * (size - 1)
    return total / pairs if pairs else float("nan")


def diversity_of(model: NoiseModel, samples: Samples) -> float:
    """`diversity` of samples."""
    return diversity(model, samples.z, samples.mask, samples.template_index)


def guidance_sweep(
    run: Run, weights: Sequence[float], *, count: int, scales: Sequence[float] = LIMIT_SCALES, **changes: Any
) -> dict[float, SampleQuality]:
    """Sample with several guidance weights from the same noise and measure each set.

    Parameters
    ----------
    run : Run
    weights : sequence of float
        w; 0 is without guidance.
    count : int
        Samples of each weight.
    scales : sequence of float
        Factors on the contact limits.
    **changes
        Further fields of `SamplingSettings`.

    Returns
    -------
    dict
        Quality by weight.

    Raises
    ------
    InputError
        No weight.
    """
    if not weights:
        raise InputError("guidance sweep: no weight; give at least one, 0 for no guidance")
    return {
        weight: sample_quality(run, draw_with(run, guidance_scale=weight, count=count, **changes), scales)
        for weight in weights
    }


@dataclass(frozen=True)
class SolverRun:
    """One solver on the run's models.

    Attributes
    ----------
    solver : str
    steps : int
    samples : Samples
    seconds : float
        Shortest wall time of the repeats.
    """

    solver: str
    steps: int
    samples: Samples
    seconds: float


def compare_solvers(
    run: Run, solvers: Mapping[str, tuple[str, int]], *, count: int, repeats: int = 3, **changes: Any
) -> dict[str, SolverRun]:
    """Draw the same samples with several solvers, all from the same noise, and time them in one process.

    The repeats of all solvers take turns, so that a busy machine slows all of them.

    Parameters
    ----------
    run : Run
    solvers : mapping
        (solver, steps) by a name of one's own.
    count : int
    repeats : int
        1 or more.
    **changes
        Further fields of `SamplingSettings`.
    """
    found: dict[str, SolverRun] = {}
    for _ in range(repeats):
        for name, (solver, steps) in solvers.items():
            begin = time.perf_counter()
            samples = draw_with(run, solver=solver, steps=steps, count=count, **changes)
            seconds = time.perf_counter() - begin
            if name in found:
                seconds = min(seconds, found[name].seconds)
            found[name] = SolverRun(solver, steps, samples, seconds)
    return found


def sample_distance(model: NoiseModel, one: Samples, other: Samples) -> float:
    """Root-mean-square difference of two sample sets row by row, in training standard deviations.

    Parameters
    ----------
    model : NoiseModel
    one, other : Samples
        On the same templates, row by row; constant columns are left out.

    Raises
    ------
    InputError
        The templates differ.
    """
    if not torch.equal(one.template_index, other.template_index):
        raise InputError("sample distance: the two sets are on different templates; draw both from the same seed")
    moving = one.mask & ~model.statistics.constant
    gap = ((one.z - other.z) / model.statistics.scale)[moving]
    return float(gap.square().mean().sqrt())


def labelled_pairs(run: Run, count: int) -> dict[str, list[float]]:
    """Energies of the run's first pushed-apart samples by its labelling potential, with and without guidance.

    Labels are kept in the store.

    Parameters
    ----------
    run : Run
        With finished `sample_stage`.
    count : int
        At most so many rows; the same rows of both sets, which started from the same noise. Rows
        that either set lost, or whose label failed, are left out.

    Returns
    -------
    dict
        eV per formula unit, for ``"guided"`` and ``"unguided"``.

    Raises
    ------
    InputError
        The run holds no such samples.
    """
    sets: dict[str, dict[int, Candidate]] = {}
    for name in ("unguided", "guided"):
        found = candidates_of(run, method_name(name == "guided", corrected=True))
        sets[name] = {int(c.extra["row"]): c for c in found if c.accepted}
    rows = sorted(sets["unguided"].keys() & sets["guided"].keys())[:count]
    if not rows:
        raise InputError(f"{run.directory}: no sample passed with and without guidance; run sample_stage first")
    energies = energies_of(run, [sets[name][row] for name in sets for row in rows], run.config.label.potential)
    kept = [row for row in rows if all(sets[name][row].id in energies for name in sets)]
    return {name: [energies[chosen[row].id] for row in kept] for name, chosen in sets.items()}


def spread(model: NoiseModel, samples: Samples) -> float:
    """Root-mean-square of the standardised entries: 1 when samples spread as the training set."""
    moving = samples.mask & ~model.statistics.constant
    values = model.statistics.standardize(samples.z, samples.mask)[moving]
    return float(values.square().mean().sqrt())

"""Training of the supplement's noise and energy models on vectors z."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from nanh2lib.crystal.asymmetric_unit import Template
from nanh2lib.diffusion.fit import ValidationLoss, fit, split_rows
from nanh2lib.diffusion.models import (
    EnergyModel,
    NoiseModel,
    TemplateLibrary,
    TrainingSettings,
    diffused_entries,
    new_energy_network,
    new_noise_network,
)
from nanh2lib.diffusion.schedule import NoiseSchedule
from nanh2lib.diffusion.standardize import ColumnStatistics, check_energies, check_vectors
from nanh2lib.errors import InputError

VALIDATION_DRAWS = 8
"""Noise draws for each validation row; fixed, so that epochs are compared on equal terms."""
MIN_ENERGY_SPREAD = 1e-9
"""Standard deviation (eV per formula unit) below which energies count as all alike."""
RUN_ONLY = {"epochs", "checkpoint_every"}
"""Settings that may change between a killed run and its continuation."""


@dataclass(frozen=True)
class _Data:
    """Standardised rows of a training set, split."""

    z: Tensor  # (N, D) float32
    mask: Tensor  # (N, D)
    index: Tensor  # (N,)
    training: Tensor
    validation: Tensor
    statistics: ColumnStatistics
    library: TemplateLibrary


def _prepare(
    z: Tensor,
    mask: Tensor | None,
    settings: TrainingSettings,
    templates: Sequence[Template] | None,
    groups: Sequence[int] | None,
    source: str,
) -> _Data:
    z, mask = check_vectors(z, mask, source)
    library, index = TemplateLibrary.of(mask, templates)
    training, validation = split_rows(
        len(z), settings.validation_fraction, settings.seed, None if groups is None else list(groups)
    )
    statistics = ColumnStatistics.of(z[training], mask[training])
    standardized = statistics.standardize(z, mask).to(torch.float32)
    return _Data(standardized, mask, index, training, validation, statistics, library)


def run_key(settings: TrainingSettings, *tensors: Tensor) -> str:
    """Hash of settings (but not of how long to train, unless the schedule needs it) and data."""
    excluded = RUN_ONLY if settings.learning_rate_schedule != "cosine" else {"checkpoint_every"}
    digest = hashlib.sha256(settings.model_dump_json(exclude=excluded).encode())
    for tensor in tensors:
        digest.update(str(tuple(tensor.shape)).encode())
        digest.update(tensor.detach().contiguous().numpy().tobytes())
    return digest.hexdigest()


def train_noise_model(
    z: Tensor,
    mask: Tensor | None = None,
    settings: TrainingSettings | None = None,
    *,
    templates: Sequence[Template] | None = None,
    groups: Sequence[int] | None = None,
    run_directory: str | Path | None = None,
    progress: bool = True,
) -> NoiseModel:
    """Train the noise model: it learns the Gaussian noise added at each timestep.

    Parameters
    ----------
    z : Tensor, shape (N, D)
        Encoded structures (A, radians, degrees), padded to the longest.
    mask : Tensor of bool, shape (N, D), optional
        True where an entry belongs to the row's template. None: no padding.
    settings : TrainingSettings, optional
    templates : sequence of Template, length N, optional
        Kept with the model, so that samples can be decoded.
    groups : sequence of int, length N, optional
        Rows with one label stay on one side of the split (duplicates must not leak).
    run_directory : path, optional
        Makes the run resumable; see `fit`.
    progress : bool
        Show a progress bar.

    Returns
    -------
    NoiseModel

    Raises
    ------
    InputError
        Shapes do not fit.
    ComputationError
        z or a loss is not finite.
    """
    settings = settings or TrainingSettings()
    data = _prepare(z, mask, settings, templates, groups, "train_noise_model")
    network = new_noise_network(data.statistics.width, len(data.library), settings)
    schedule = settings.noise_schedule()
    diffused = diffused_entries(data.mask, data.statistics, settings)
    if not bool(diffused.any()):
        raise InputError("train_noise_model: every column of z is constant; nothing to learn, give more structures")
    indices = data.index if settings.condition_on_template else None

    def batch_loss(rows: Tensor, generator: torch.Generator) -> Tensor:
        chosen = data.training[rows]
        timestep = torch.randint(schedule.timesteps, (len(chosen),), generator=generator)
        noise = torch.randn(data.z[chosen].shape, generator=generator)
        return _noise_loss(network, schedule, data, diffused, indices, chosen, timestep, noise)

    validation_loss = _noise_validation(schedule, data, diffused, indices, settings)
    history = fit(
        network, batch_loss, validation_loss, len(data.training), settings,
        label="noise model", run_key=run_key(settings, data.z, data.mask),
        run_directory=run_directory, progress=progress,
    )  # fmt: skip
    return NoiseModel(network, data.statistics, data.library, settings, history)


def _noise_loss(
    network: nn.Module,
    schedule: NoiseSchedule,
    data: _Data,
    diffused: Tensor,
    indices: Tensor | None,
    rows: Tensor,
    timestep: Tensor,
    noise: Tensor,
) -> Tensor:
    """Mean-squared error of the predicted noise over the entries that carry noise."""
    used = diffused[rows]
    weight = used.to(torch.float32)
    noised = torch.where(used, schedule.add_noise(data.z[rows], noise, timestep), data.z[rows])
    predicted = network(noised, data.mask[rows], timestep, None if indices is None else indices[rows])
    return (weight * (predicted - noise) ** 2).sum() / weight.sum().clamp_min(1)


def _noise_validation(
    schedule: NoiseSchedule,
    data: _Data,
    diffused: Tensor,
    indices: Tensor | None,
    settings: TrainingSettings,
) -> ValidationLoss | None:
    if len(data.validation) == 0:
        return None
    rows = data.validation.repeat(VALIDATION_DRAWS)
    generator = torch.Generator().manual_seed(settings.seed + 2)
    # Timesteps spread evenly over 0..T-1, one stratum for each row.
    strata = torch.randperm(len(rows), generator=generator) + torch.rand(len(rows), generator=generator)
    timestep = (strata / len(rows) * schedule.timesteps).long().clamp_max(schedule.timesteps - 1)
    noise = torch.randn(len(rows), data.z.shape[1], generator=generator)

    def loss(network: nn.Module) -> float:
        with torch.no_grad():
            return float(_noise_loss(network, schedule, data, diffused, indices, rows, timestep, noise))

    return loss


def train_energy_model(
    z: Tensor,
    mask: Tensor | None,
    energies: Tensor,
    settings: TrainingSettings | None = None,
    *,
    templates: Sequence[Template] | None = None,
    groups: Sequence[int] | None = None,
    run_directory: str | Path | None = None,
    progress: bool = True,
) -> EnergyModel:
    """Train the energy model: it learns the standardised energy of a clean z.

    Parameters
    ----------
    z, mask, settings, templates, groups, run_directory, progress
        As for `train_noise_model`; equal settings and data give the same split.
    energies : Tensor, shape (N,)
        eV per formula unit.

    Returns
    -------
    EnergyModel
        ``history.metrics``: mean absolute and root-mean-square errors on training and validation
        rows in eV per formula unit, and those of predicting the training mean (``baseline_...``).

    Raises
    ------
    InputError, ComputationError
        As for `train_noise_model`; also for energies that are missing, NaN or all alike.
    """
    settings = settings or TrainingSettings()
    source = "train_energy_model"
    data = _prepare(z, mask, settings, templates, groups, source)
    energies = check_energies(energies, len(data.z), source)
    mean, scale = float(energies[data.training].mean()), float(energies[data.training].std(correction=0))
    if scale < MIN_ENERGY_SPREAD:
        raise InputError(f"{source}: the {len(data.training)} training energies are all {mean}; nothing to learn")
    target = ((energies - mean) / scale).to(torch.float32)
    network = new_energy_network(data.statistics.width, len(data.library), settings)
    indices = data.index if settings.condition_on_template else None

    def loss(module: nn.Module, rows: Tensor) -> Tensor:
        predicted = module(data.z[rows], data.mask[rows], None if indices is None else indices[rows])
        return ((predicted - target[rows]) ** 2).mean()

    def validation_loss(module: nn.Module) -> float:
        with torch.no_grad():
            return float(loss(module, data.validation))

    history = fit(
        network, lambda rows, _: loss(network, data.training[rows]),
        validation_loss if len(data.validation) else None, len(data.training), settings,
        label="energy model", run_key=run_key(settings, data.z, data.mask, energies),
        run_directory=run_directory, progress=progress,
    )  # fmt: skip
    model = EnergyModel(network, data.statistics, data.library, settings, history, mean, scale)
    with torch.no_grad():
        standardized = network(data.z, data.mask, indices).to(torch.float64)
    history.metrics |= energy_errors(standardized * scale + mean, energies, data.training, data.validation)
    return model


def energy_errors(predicted: Tensor, energies: Tensor, training: Tensor, validation: Tensor) -> dict[str, float]:
    """Errors of predicted energies, beside those of predicting the training mean.

    Parameters
    ----------
    predicted, energies : Tensor, shape (N,)
        eV per formula unit.
    training, validation : Tensor of int
        Row numbers.

    Returns
    -------
    dict
        ``{training,validation}_{mae,rmse}`` and ``baseline_...`` in eV per formula unit.
    """
    mean = energies[training].mean()
    metrics: dict[str, float] = {}
    for name, rows in (("training", training), ("validation", validation)):
        if len(rows) == 0:
            continue
        for prefix, guess in (("", predicted[rows]), ("baseline_", mean)):
            error = guess - energies[rows]
            metrics[f"{prefix}{name}_mae"] = float(error.abs().mean())
            metrics[f"{prefix}{name}_rmse"] = float((error**2).mean().sqrt())
    return metrics

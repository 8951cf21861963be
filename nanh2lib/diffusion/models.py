"""The trained models of the faithful scheme, and the templates that their vectors belong to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor

from nanh2lib.crystal.asymmetric_unit import Template
from nanh2lib.diffusion.checkpoints import (
    Checkpoint,
    load_weights,
    prefixed,
    read_checkpoint,
    write_checkpoint,
)
from nanh2lib.diffusion.fit import FitSettings, History
from nanh2lib.diffusion.networks import EnergyNetwork, NoiseNetwork
from nanh2lib.diffusion.schedule import NoiseSchedule, ScheduleName
from nanh2lib.diffusion.standardize import ColumnStatistics
from nanh2lib.errors import CheckpointError, InputError
from nanh2lib.settings import config_hash

KIND = "paper"


class TrainingSettings(FitSettings):
    """The supplement's model; what it leaves open has the field's usual value.

    Attributes
    ----------
    model : {"paper"}
    scheme : {"split", "paper"}
        Encoding of z: separate Na and NH2, or one rigid NaNH2 subunit.
    noise_hidden, energy_hidden : tuple of int
        Hidden layers: 3 x 64 and 3 x 128 (supplement).
    timesteps : int
        T (open in the supplement; 1000 as in Ho et al. 2020).
    schedule, beta_start, beta_end
        See `NoiseSchedule.named` (open; linear, 1e-4 to 0.02).
    time_embedding : int
        Size of the sinusoidal timestep embedding (open).
    mask_input : bool
        Extension: show the mask to the networks, not only to the loss.
    condition_on_template : bool
        Extension: show the template to the networks.
    clamp_constant_columns : bool
        Columns without variance (an indexed cell) are neither noised nor predicted.
    """

    model: Literal["paper"] = "paper"
    scheme: Literal["split", "paper"] = "split"
    noise_hidden: tuple[int, ...] = (64, 64, 64)
    energy_hidden: tuple[int, ...] = (128, 128, 128)
    timesteps: int = Field(default=1000, ge=2)
    schedule: ScheduleName = "linear"
    beta_start: float = Field(default=1e-4, gt=0, lt=1)
    beta_end: float = Field(default=0.02, gt=0, lt=1)
    time_embedding: int = Field(default=32, ge=1)
    mask_input: bool = False
    condition_on_template: bool = False
    clamp_constant_columns: bool = True

    @model_validator(mode="after")
    def _check(self) -> TrainingSettings:
        if self.time_embedding > 1 and self.time_embedding % 2:
            raise ValueError(f"time_embedding = {self.time_embedding}: give 1 or an even number")
        if self.beta_end < self.beta_start:
            raise ValueError(f"beta_end = {self.beta_end} is below beta_start = {self.beta_start}")
        if min(self.noise_hidden + self.energy_hidden, default=0) < 1:
            raise ValueError("hidden layers need at least one unit each")
        return self

    def noise_schedule(self) -> NoiseSchedule:
        """The schedule that the settings name."""
        return NoiseSchedule.named(self.schedule, self.timesteps, self.beta_start, self.beta_end)


@dataclass(frozen=True)
class TemplateLibrary:
    """The templates of a training set, the mask of each, and how often each occurs.

    Attributes
    ----------
    masks : Tensor of bool, shape (K, D)
        Entries of the padded z that a template uses.
    counts : Tensor of int, shape (K,)
        Training structures.
    templates : tuple of Template or None, length K
        None when the caller trained on bare vectors.
    """

    masks: Tensor
    counts: Tensor
    templates: tuple[Template | None, ...]

    @classmethod
    def of(cls, mask: Tensor, templates: Sequence[Template] | None) -> tuple[TemplateLibrary, Tensor]:
        """Library of a training set and the number of each row's template.

        Parameters
        ----------
        mask : Tensor of bool, shape (N, D)
        templates : sequence of Template, length N, optional
            Without it rows with the same mask share an entry.

        Returns
        -------
        library : TemplateLibrary
        index : Tensor of int, shape (N,)

        Raises
        ------
        InputError
            The number of templates is not N, or one template comes with two masks.
        """
        if templates is None:
            masks, index, counts = torch.unique(mask, dim=0, return_inverse=True, return_counts=True)
            return cls(masks, counts, (None,) * len(masks)), index
        if len(templates) != len(mask):
            raise InputError(f"templates: {len(templates)} given for {len(mask)} rows of z; give one for each row")
        numbers: dict[Template, int] = {}
        index = torch.tensor([numbers.setdefault(template, len(numbers)) for template in templates])
        first = torch.tensor([int((index == k).nonzero()[0]) for k in range(len(numbers))])
        bad = (mask != mask[first][index]).any(1).nonzero()
        if len(bad):
            row = int(bad[0])
            raise InputError(f"row {row}: its mask differs from that of other rows on {templates[row].label}")
        return cls(mask[first], torch.bincount(index, minlength=len(numbers)), tuple(numbers)), index

    def __len__(self) -> int:
        return len(self.counts)

    def number_of(self, template: Template) -> int:
        """Place of a template.

        Raises
        ------
        InputError
            The model was not trained on it.
        """
        if template in self.templates:
            return self.templates.index(template)
        known = "; ".join(t.label for t in self.templates if t is not None) or "none (trained on bare vectors)"
        raise InputError(f"template {template.label}: the model was not trained on it; it knows {known}")

    def draw(self, count: int, generator: torch.Generator) -> Tensor:
        """Template numbers (count,) drawn from the training frequencies."""
        return torch.multinomial(self.counts.to(torch.float64), count, replacement=True, generator=generator)

    def to_dict(self) -> dict[str, Any]:
        return {
            "masks": self.masks.to(torch.int64).tolist(),
            "counts": self.counts.tolist(),
            "templates": [None if t is None else t.to_dict() for t in self.templates],
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> TemplateLibrary:
        return cls(
            torch.tensor(data["masks"], dtype=torch.bool),
            torch.tensor(data["counts"], dtype=torch.int64),
            tuple(None if t is None else Template.from_dict(t) for t in data["templates"]),
        )


@dataclass(frozen=True)
class NoiseModel:
    """A trained noise network with all that sampling needs.

    Attributes
    ----------
    network : NoiseNetwork
    statistics : ColumnStatistics
        Of the training rows.
    library : TemplateLibrary
    settings : TrainingSettings
    history : History
    """

    network: NoiseNetwork
    statistics: ColumnStatistics
    library: TemplateLibrary
    settings: TrainingSettings
    history: History

    @property
    def diffused(self) -> Tensor:
        """Entries that carry noise, by template: in use and, if so set, not constant; (K, D) bool."""
        return diffused_entries(self.library.masks, self.statistics, self.settings)


@dataclass(frozen=True)
class EnergyModel:
    """A trained energy network.

    Attributes
    ----------
    network : EnergyNetwork
    statistics : ColumnStatistics
    library : TemplateLibrary
    settings : TrainingSettings
    history : History
        ``metrics`` holds the errors, beside those of predicting the mean.
    energy_mean, energy_scale : float
        eV per formula unit: E = energy_mean + energy_scale E_std.
    """

    network: EnergyNetwork
    statistics: ColumnStatistics
    library: TemplateLibrary
    settings: TrainingSettings
    history: History
    energy_mean: float
    energy_scale: float

    def predict(self, z: Tensor, mask: Tensor, template_index: Tensor | None = None) -> Tensor:
        """Energies (N,) in eV per formula unit of z (N, D) in A, radians and degrees."""
        with torch.no_grad():
            standardized = self.statistics.standardize(z, mask).to(torch.float32)
            energy = self.network(standardized, mask, template_index).to(torch.float64)
        return energy * self.energy_scale + self.energy_mean


@dataclass(frozen=True)
class PaperModels:
    """Noise model and, for guidance, the energy model.

    Attributes
    ----------
    noise : NoiseModel
    energy : EnergyModel or None
        Without it sampling is unguided.
    """

    noise: NoiseModel
    energy: EnergyModel | None = None


def diffused_entries(mask: Tensor, statistics: ColumnStatistics, settings: TrainingSettings) -> Tensor:
    """Entries of z (..., D) that carry noise."""
    if not settings.clamp_constant_columns:
        return mask
    return mask & ~statistics.constant


def new_noise_network(width: int, n_templates: int, settings: TrainingSettings) -> NoiseNetwork:
    """Noise network of the settings, initialised from their seed."""
    return NoiseNetwork(
        width,
        settings.noise_hidden,
        time_embedding=settings.time_embedding,
        mask_input=settings.mask_input,
        n_templates=n_templates if settings.condition_on_template else 0,
        generator=torch.Generator().manual_seed(settings.seed),
    )


def new_energy_network(width: int, n_templates: int, settings: TrainingSettings) -> EnergyNetwork:
    """Energy network of the settings, initialised from their seed."""
    return EnergyNetwork(
        width,
        settings.energy_hidden,
        mask_input=settings.mask_input,
        n_templates=n_templates if settings.condition_on_template else 0,
        generator=torch.Generator().manual_seed(settings.seed + 1),
    )


def save_paper_models(path: str | Path, models: PaperModels) -> Path:
    """Write ``path.json`` and ``path.safetensors``; the JSON's path is returned."""
    payload: dict[str, Any] = {"noise": _describe(models.noise)}
    tensors = prefixed(models.noise.network.state_dict(), "noise")
    if models.energy is not None:
        payload["energy"] = {
            **_describe(models.energy),
            "energy_mean": models.energy.energy_mean,
            "energy_scale": models.energy.energy_scale,
        }
        tensors |= prefixed(models.energy.network.state_dict(), "energy")
    return write_checkpoint(path, KIND, payload, tensors)


def load_paper_models(path: str | Path) -> PaperModels:
    """Read what `save_paper_models` wrote.

    Raises
    ------
    CheckpointError
        See `read_checkpoint`; or the settings inside are not ours.
    """
    checkpoint = read_checkpoint(path, KIND)
    settings, statistics, library, history = _restore(checkpoint, "noise")
    network = new_noise_network(statistics.width, len(library), settings)
    load_weights(network, checkpoint, "noise")
    noise = NoiseModel(network.eval(), statistics, library, settings, history)
    if "energy" not in checkpoint.payload:
        return PaperModels(noise)
    settings, statistics, library, history = _restore(checkpoint, "energy")
    energy_network = new_energy_network(statistics.width, len(library), settings)
    load_weights(energy_network, checkpoint, "energy")
    scale = checkpoint.payload["energy"]
    energy = EnergyModel(
        energy_network.eval(), statistics, library, settings, history,
        float(scale["energy_mean"]), float(scale["energy_scale"]),
    )  # fmt: skip
    return PaperModels(noise, energy)


def _describe(model: NoiseModel | EnergyModel) -> dict[str, Any]:
    return {
        "settings": model.settings.model_dump(mode="json"),
        "config_hash": config_hash(model.settings),
        "statistics": model.statistics.to_dict(),
        "library": model.library.to_dict(),
        "history": model.history.to_dict(),
    }


def _restore(checkpoint: Checkpoint, part: str) -> tuple[TrainingSettings, ColumnStatistics, TemplateLibrary, History]:
    try:
        data = checkpoint.payload[part]
        settings = TrainingSettings.from_mapping(data["settings"], f"{checkpoint.path}: {part}")
        return (
            settings,
            ColumnStatistics.from_dict(data["statistics"]),
            TemplateLibrary.from_dict(data["library"]),
            History.from_dict(data["history"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"{checkpoint.path}: the description of the {part} model is damaged or of another version ({error}); "
            "train again"
        ) from error

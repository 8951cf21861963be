"""The geometric model: settings, what was learned, and its predictions as scores that obey the crystal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor

from nanh2lib.crystal.asymmetric_unit import AsymmetricUnit, Template
from nanh2lib.crystal.rigid_unit import RigidUnit
from nanh2lib.diffusion.fit import FitSettings, History
from nanh2lib.diffusion.geometric.flat_units import FlatUnits
from nanh2lib.diffusion.geometric.graph import UnitKinds
from nanh2lib.diffusion.geometric.network import (
    Conditions,
    CrystalNetwork,
    NetworkSettings,
    Scores,
    UnitNetwork,
)
from nanh2lib.diffusion.geometric.noising import (
    CellStatistics,
    NoiseSettings,
    cartesian,
    project_strain,
    turn_axes,
)
from nanh2lib.diffusion.geometric.plain_network import PlainNetwork
from nanh2lib.errors import InputError


class GeometricSettings(FitSettings):
    """Settings of the geometric model; every part can be switched for an ablation.

    Attributes
    ----------
    noise : NoiseSettings
    network : NetworkSettings
    origin : {"quotient", "augmented", "kept"}
        Remove drifts along polar axes from targets and predictions (the graph network does not
        see origins at all); shift origins at random while training (what the plain network
        needs); or neither (ablation).
    turn_weight, strain_weight : float
        Weight of orientations and cell in the loss, positions having 1.
    hall_dropout : float
        Share of training crystals whose space group is hidden, so that templates in groups
        that the model never saw can be sampled.
    gradient_weight, energy_tolerance, force_tolerance : float
        Of a learned potential: weight of gradients beside energies, and the errors (eV per formula
        unit; eV/A on a unit) from which on the loss grows linearly.
    """

    model: Literal["geometric"] = "geometric"
    epochs: int = Field(default=300, ge=1)
    learning_rate: float = Field(default=2e-3, gt=0)
    learning_rate_schedule: Literal["plateau", "cosine", "constant"] = "cosine"
    keep: Literal["best", "last"] = "last"
    average_decay: float = Field(default=0.998, ge=0, lt=1)
    max_gradient_norm: float | None = Field(default=1.0, gt=0)
    checkpoint_every: int = Field(default=5, ge=1)
    noise: NoiseSettings = NoiseSettings()
    network: NetworkSettings = NetworkSettings()
    origin: Literal["quotient", "augmented", "kept"] = "quotient"
    turn_weight: float = Field(default=1.0, ge=0)
    strain_weight: float = Field(default=1.0, ge=0)
    hall_dropout: float = Field(default=0.1, ge=0, le=1)
    gradient_weight: float = Field(default=1.0, ge=0)
    energy_tolerance: float = Field(default=0.03, gt=0)
    force_tolerance: float = Field(default=0.3, gt=0)


@dataclass(frozen=True)
class Vocabulary:
    """What a model can be asked about.

    Attributes
    ----------
    kinds : UnitKinds
    halls : tuple of int
        Hall numbers of the training set; others share the number 0.
    templates : tuple of Template
    counts : tuple of int
        Training crystals on each template.
    """

    kinds: UnitKinds
    halls: tuple[int, ...]
    templates: tuple[Template, ...]
    counts: tuple[int, ...]

    @classmethod
    def of(cls, parts: Sequence[AsymmetricUnit]) -> Vocabulary:
        """From a training set."""
        counts: dict[Template, int] = {}
        for part in parts:
            counts[part.template] = counts.get(part.template, 0) + part.batch_size
        halls = tuple(sorted({template.hall_number for template in counts}))
        return cls(UnitKinds.of(tuple(counts)), halls, tuple(counts), tuple(counts.values()))

    @property
    def slots(self) -> tuple[int, ...]:
        """Most units of each kind on one template."""
        return tuple(max(sum(s.unit == unit for s in t.sites) for t in self.templates) for unit in self.kinds.units)

    def hall_index(self, flat: FlatUnits) -> Tensor:
        """Number (C,) of each crystal's space group; 0 for one that was not trained on."""
        numbers = {hall: i + 1 for i, hall in enumerate(self.halls)}
        return torch.tensor([numbers.get(table.template.hall_number, 0) for table in flat.tables])

    def check(self, template: Template) -> None:
        """Refuse templates with units that the model does not know.

        Raises
        ------
        InputError
        """
        for site in template.sites:
            if site.unit not in self.kinds.units:
                known = ", ".join(unit.name for unit in self.kinds.units)
                raise InputError(
                    f"template {template.label}: the model does not know the unit {site.unit.name}; it knows {known}"
                )

    def to_dict(self) -> dict[str, Any]:
        return {
            "units": [unit.to_dict() for unit in self.kinds.units],
            "halls": list(self.halls),
            "templates": [template.to_dict() for template in self.templates],
            "counts": list(self.counts),
        }

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Vocabulary:
        units = tuple(RigidUnit.from_dict(unit) for unit in data["units"])
        templates = tuple(Template.from_dict(template) for template in data["templates"])
        return cls(UnitKinds(units), tuple(data["halls"]), templates, tuple(data["counts"]))


def new_network(
    vocabulary: Vocabulary,
    settings: NetworkSettings,
    *,
    head: Literal["score", "energy"],
    noised: bool,
    generator: torch.Generator,
) -> UnitNetwork:
    """The network that the settings name, with fresh weights."""
    halls = len(vocabulary.halls)
    if settings.architecture == "plain":
        return PlainNetwork(
            vocabulary.kinds, vocabulary.slots, halls, settings, head=head, noised=noised, generator=generator
        )
    return CrystalNetwork(vocabulary.kinds, halls, settings, head=head, noised=noised, generator=generator)


@dataclass(frozen=True)
class GeometricModel:
    """A trained score network.

    Attributes
    ----------
    network : UnitNetwork
    vocabulary : Vocabulary
    cells : CellStatistics
    settings : GeometricSettings
    history : History
    """

    network: UnitNetwork
    vocabulary: Vocabulary
    cells: CellStatistics
    settings: GeometricSettings
    history: History

    def scores(self, flat: FlatUnits, level: Tensor, strain_state: Tensor | None = None) -> Scores:
        """Sigma times the score of noised crystals, float64; see `predict_scores`."""
        conditions = make_conditions(self.vocabulary, self.settings, flat, level)
        with torch.no_grad():
            return predict_scores(self.network, flat, level, conditions, self.settings, self.cells, strain_state)


@dataclass(frozen=True)
class GeometricEnergyModel:
    """A trained energy network.

    Attributes
    ----------
    network : UnitNetwork
        Told the noise level if ``network.noised``.
    vocabulary : Vocabulary
    settings : GeometricSettings
    history : History
        ``metrics``: errors beside those of predicting the mean, eV per formula unit.
    energy_mean, energy_scale : float
        eV per formula unit.
    """

    network: UnitNetwork
    vocabulary: Vocabulary
    settings: GeometricSettings
    history: History
    energy_mean: float
    energy_scale: float

    def standardized(self, flat: FlatUnits, level: Tensor | None = None) -> Tensor:
        """Standardised energies (C,), float32, differentiable with respect to the crystals."""
        conditions = make_conditions(self.vocabulary, self.settings, flat, level)
        single = flat.to(torch.float32)
        return self.network.energies(single, self.network.geometry(single), conditions)

    def predict(self, parts: Sequence[AsymmetricUnit], batch_size: int = 64) -> Tensor:
        """Energies (B,), eV per formula unit, of clean asymmetric units (all batches in turn)."""
        energies = []
        with torch.no_grad():
            for part in parts:
                for first in range(0, part.batch_size, batch_size):
                    flat = FlatUnits.of([part[first : first + batch_size]])
                    level = torch.zeros(flat.n_crystals, dtype=torch.int64) if self.network.noised else None
                    energies.append(self.standardized(flat, level).to(torch.float64))
        return torch.cat(energies) * self.energy_scale + self.energy_mean


def make_conditions(
    vocabulary: Vocabulary, settings: GeometricSettings, flat: FlatUnits, level: Tensor | None
) -> Conditions:
    """What a network is told about crystals, at noise levels (C,) or clean."""
    log_sigma = None
    if level is not None:
        log_sigma = settings.noise.sigmas("position")[level].log().to(torch.float32)
    return Conditions(log_sigma, vocabulary.hall_index(flat), flat.site_data())


def predict_scores(
    network: UnitNetwork,
    flat: FlatUnits,
    level: Tensor,
    conditions: Conditions,
    settings: GeometricSettings,
    cells: CellStatistics,
    strain_state: Tensor | None,
) -> Scores:
    """Sigma times the score of each process, projected onto what sites and crystal family allow.

    Parameters
    ----------
    network : UnitNetwork
        float32.
    flat : FlatUnits
        Noised crystals, float64.
    level : Tensor of int, shape (C,)
    conditions : Conditions
    settings : GeometricSettings
    cells : CellStatistics
    strain_state : Tensor, shape (C, 3, 3), or None
        y_t of a free cell.

    Returns
    -------
    Scores
        float64; gradients with respect to the network's weights are kept.
    """
    single = flat.to(torch.float32)
    raw = network.scores(single, network.geometry(single), conditions)
    sites = conditions.sites
    position = (cartesian(sites.origin_projection, flat) @ raw.position.to(torch.float64)[..., None])[..., 0]
    turns, _ = turn_axes(flat, sites)
    turn = (turns @ raw.turn.to(torch.float64)[..., None])[..., 0]
    if settings.origin == "quotient":
        position = remove_drift(position, flat)
    strain = torch.zeros(flat.n_crystals, 3, 3, dtype=torch.float64)
    if settings.noise.lattice == "strain" and strain_state is not None:
        sigma = settings.noise.sigmas("strain")[level][:, None, None]
        # A standard normal prior on eps_0 / s gives the first term; the network corrects it.
        learned = project_strain(raw.strain.to(torch.float64), flat, cells)
        strain = -sigma / (1 + sigma**2) * strain_state + learned / torch.sqrt(1 + sigma**2)
    return Scores(position, turn, strain)


def remove_drift(vectors: Tensor, flat: FlatUnits) -> Tensor:
    """Subtract the common motion along polar axes.

    Parameters
    ----------
    vectors : Tensor, shape (N, 3)
        Cartesian, one for each unit.
    flat : FlatUnits

    Returns
    -------
    Tensor, shape (N, 3)
        A crystal's origin along a polar axis is arbitrary, so the density does not change along
        the common shift and the score has no component there.
    """
    if all(len(table.free_directions) == 0 for table in flat.tables):
        return vectors
    projection = torch.zeros(flat.n_crystals, 3, 3, dtype=vectors.dtype)
    for number, table in enumerate(flat.tables):
        if len(table.free_directions):
            directions = table.free_directions.to(vectors.dtype) @ flat.lattice[number].to(vectors.dtype)
            basis, _ = torch.linalg.qr(directions.T)
            projection[number] = basis @ basis.T
    count = torch.bincount(flat.crystal, minlength=flat.n_crystals).to(vectors.dtype)
    mean = vectors.new_zeros(flat.n_crystals, 3).index_add(0, flat.crystal, vectors) / count[:, None]
    drift = (projection @ mean[..., None])[..., 0]
    return vectors - drift[flat.crystal]

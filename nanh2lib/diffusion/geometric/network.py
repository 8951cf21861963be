"""A graph network on rigid units and their symmetry images: scores of positions, orientations and cell, or energies.

Scalars travel between units; vectors are built from the directions between atoms at each unit
(their inner products feed the scalars, which tells angles), so every output turns with the crystal:
forces and strains as polar, torques as axial tensors. Sums run over neighbours, so the order of
units does not matter.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import dataclass
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from nanh2lib.diffusion.geometric.features import (
    CrystalGeometry,
    RadialBasis,
    class_pairs,
    crystal_geometry,
)
from nanh2lib.diffusion.geometric.flat_units import FlatUnits
from nanh2lib.diffusion.geometric.graph import UnitKinds
from nanh2lib.diffusion.geometric.tables import SiteData
from nanh2lib.settings import StageSettings

NEIGHBOURS = 30.0
"""Typical number of neighbours; sums are divided by it."""


class NetworkSettings(StageSettings):
    """Size and inputs of the graph network.

    Attributes
    ----------
    features : int
        Scalars a unit carries.
    channels : int
        Vectors built at each unit.
    layers : int
        Rounds of messages.
    cutoff : float
        Distance of neighbouring reference points, A.
    radial, vector_radial : int
        Distance functions of invariant and vector features.
    condition_on_space_group, condition_on_site : bool
        Show the Hall number; the multiplicity, order and freedom of the site.
    architecture : {"graph", "plain"}
        The equivariant network, or a perceptron on coordinates (ablation).
    plain_hidden : tuple of int
        Hidden layers of the latter.
    """

    features: int = Field(default=64, ge=4)
    channels: int = Field(default=16, ge=1)
    layers: int = Field(default=3, ge=1)
    cutoff: float = Field(default=6.0, gt=1)
    radial: int = Field(default=20, ge=4)
    vector_radial: int = Field(default=8, ge=3)
    condition_on_space_group: bool = True
    condition_on_site: bool = True
    architecture: Literal["graph", "plain"] = "graph"
    plain_hidden: tuple[int, ...] = (256, 256, 256)

    @property
    def basis(self) -> RadialBasis:
        """Distance functions out to the cutoff and a little more (atoms stick out of their units)."""
        return RadialBasis(self.radial, self.vector_radial, end=self.cutoff + 1.0)


@dataclass(frozen=True)
class Scores:
    """What the score network predicts: sigma times the score of each noise process.

    Attributes
    ----------
    position : Tensor, shape (N, 3)
        Cartesian.
    turn : Tensor, shape (N, 3)
        Laboratory frame.
    strain : Tensor, shape (C, 3, 3)
        Symmetric.
    """

    position: Tensor
    turn: Tensor
    strain: Tensor


@dataclass(frozen=True)
class Conditions:
    """What networks are told besides the geometry.

    Attributes
    ----------
    log_sigma : Tensor, shape (C,), or None
        Noise level of each crystal, log of A; None for clean crystals.
    hall : Tensor of int, shape (C,)
        Number of the space group in the model's list; 0 for one it does not know.
    sites : SiteData
    """

    log_sigma: Tensor | None
    hall: Tensor
    sites: SiteData


def level_embedding(log_sigma: Tensor, size: int) -> Tensor:
    """Sines and cosines (C, size) of the logarithm of the noise level (C,)."""
    frequency = torch.exp(torch.linspace(math.log(0.3), math.log(8.0), size // 2))
    angle = log_sigma[:, None] * frequency.to(log_sigma.dtype)
    return torch.cat([angle.sin(), angle.cos()], -1)


class _Layer(nn.Module):
    """One round of messages."""

    def __init__(self, features: int, channels: int) -> None:
        super().__init__()
        self.on_target = nn.Linear(features, features)
        self.on_source = nn.Linear(features, features, bias=False)
        self.on_edge = nn.Linear(features, features, bias=False)
        self.message = nn.Linear(features, features)
        self.vectors = nn.Linear(features, channels, bias=False)
        self.mix = nn.Linear(channels, 2 * channels, bias=False)
        self.norm = nn.LayerNorm(features)
        self.update = nn.Sequential(
            nn.Linear(2 * features + 2 * channels, features), nn.SiLU(), nn.Linear(features, features)
        )

    def forward(
        self, state: Tensor, edge: Tensor, envelope: Tensor, directions: Tensor, geometry: CrystalGeometry
    ) -> tuple[Tensor, Tensor]:
        scaled = self.norm(state)
        hidden = self.on_edge(edge) + self.on_target(scaled)[geometry.target] + self.on_source(scaled)[geometry.source]
        message = nn.functional.silu(self.message(nn.functional.silu(hidden))) * envelope
        units = state.new_zeros(state.shape).index_add(0, geometry.target, message) / NEIGHBOURS
        weighted = (self.vectors(message)[:, :, None] * directions).flatten(1)  # (E, channels * 3)
        vectors = state.new_zeros(len(state), weighted.shape[1]).index_add(0, geometry.target, weighted)
        vectors = vectors.unflatten(1, (-1, 3)) / math.sqrt(NEIGHBOURS)
        first, second = self.mix(vectors.transpose(1, 2)).chunk(2, -1)
        products = torch.cat([(vectors**2).sum(-1), (first * second).sum(1)], -1)
        change: Tensor = self.update(torch.cat([scaled, units, products], -1))
        return state + change, message


class UnitNetwork(nn.Module):
    """What the model asks of a network.

    Parameters
    ----------
    kinds : UnitKinds
    settings : NetworkSettings
    noised : bool
        Whether it is told a noise level.
    """

    def __init__(self, kinds: UnitKinds, settings: NetworkSettings, noised: bool) -> None:
        super().__init__()
        self.kinds, self.settings, self.noised = kinds, settings, noised

    def geometry(self, flat: FlatUnits) -> CrystalGeometry | None:
        """Neighbours and features of crystals, if the network reads them."""
        return crystal_geometry(flat, self.kinds, self.settings.cutoff, self.settings.basis)

    @abstractmethod
    def scores(self, flat: FlatUnits, geometry: CrystalGeometry | None, conditions: Conditions) -> Scores:
        """Sigma times the score of each process, before projection onto what sites allow."""

    @abstractmethod
    def energies(self, flat: FlatUnits, geometry: CrystalGeometry | None, conditions: Conditions) -> Tensor:
        """Standardised energy per formula unit (C,)."""


class CrystalNetwork(UnitNetwork):
    """Graph network with a score head or an energy head.

    Parameters
    ----------
    kinds : UnitKinds
    n_halls : int
        Space-group settings it can tell apart.
    settings : NetworkSettings
    head : {"score", "energy"}
    noised : bool
        Whether it is told a noise level.
    generator : torch.Generator
        Source of the initial weights.
    """

    def __init__(
        self,
        kinds: UnitKinds,
        n_halls: int,
        settings: NetworkSettings,
        *,
        head: Literal["score", "energy"],
        noised: bool,
        generator: torch.Generator,
    ) -> None:
        super().__init__(kinds, settings, noised)
        self.head = head
        width, channels, basis = settings.features, settings.channels, settings.basis
        self.kind = nn.Embedding(len(kinds.units), width)
        self.hall = nn.Embedding(n_halls + 1, width)
        self.site = nn.Linear(3, width, bias=False)
        self.level = nn.Sequential(nn.Linear(32, width), nn.SiLU(), nn.Linear(width, 2 * width * settings.layers))
        pairs = [(p, q) for p in range(len(kinds.units)) for q in range(len(kinds.units))]
        sizes = {f"{p}_{q}": class_pairs(kinds, p, q) for p, q in pairs}
        self.edge = nn.ModuleDict({key: nn.Linear(n * basis.count, width) for key, n in sizes.items()})
        self.direction = nn.ModuleDict(
            {key: nn.Linear(n * basis.vector_count, channels, bias=False) for key, n in sizes.items()}
        )
        self.layers = nn.ModuleList(_Layer(width, channels) for _ in range(settings.layers))
        if head == "score":
            outputs = {key: n * basis.vector_count for key, n in sizes.items()}
            self.force = nn.ModuleDict({key: nn.Linear(2 * width, n) for key, n in outputs.items()})
            self.torque = nn.ModuleDict({key: nn.Linear(2 * width, n) for key, n in outputs.items()})
            self.strain = nn.Linear(2 * width, 2)
        else:
            self.energy = nn.Sequential(nn.Linear(width, width), nn.SiLU(), nn.Linear(width, 1))
        self._initialize(generator)

    def _initialize(self, generator: torch.Generator) -> None:
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.kaiming_uniform_(module.weight, nonlinearity="relu", generator=generator)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
            elif isinstance(module, nn.Embedding):
                nn.init.normal_(module.weight, std=0.3, generator=generator)
        silent: list[nn.Module] = [self.level[-1]]
        if self.head == "score":
            silent += [*self.force.values(), *self.torque.values(), self.strain]
        for module in silent:
            for parameter in module.parameters():
                nn.init.zeros_(parameter)

    def _encode(
        self, flat: FlatUnits, geometry: CrystalGeometry, conditions: Conditions
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Scalars of units (N, F), last messages of edges (E, F), envelope (E, 1)."""
        state = self.kind(geometry.kinds)
        if self.settings.condition_on_space_group:
            state = state + self.hall(conditions.hall)[flat.crystal]
        if self.settings.condition_on_site:
            sites = conditions.sites
            described = torch.stack([sites.multiplicity.log2() / 4, sites.site_order.log2(), sites.freedom / 3], -1)
            state = state + self.site(described.to(state.dtype))
        modulation = state.new_zeros(len(state), 2 * state.shape[1] * len(self.layers))
        if self.noised and conditions.log_sigma is not None:
            modulation = self.level(level_embedding(conditions.log_sigma.to(state.dtype), 32))[flat.crystal]
        envelope = 0.5 * (1 + torch.cos(math.pi * geometry.distance / self.settings.cutoff)).to(state.dtype)
        width, channels = self.settings.features, self.settings.channels
        edge = state.new_zeros(len(geometry.target), width)
        directions = state.new_zeros(len(geometry.target), channels, 3)
        for (p, q), block in geometry.blocks.items():
            key = f"{p}_{q}"
            edge = edge.index_copy(0, block.rows, self.edge[key](block.radial))
            mixed = self.direction[key](block.force.transpose(1, 2)).transpose(1, 2)
            directions = directions.index_copy(0, block.rows, mixed)
        message = edge
        for layer, change in zip(self.layers, modulation.chunk(len(self.layers), -1), strict=True):
            scale, shift = change.chunk(2, -1)
            state = state * (1 + scale) + shift
            state, message = layer(state, edge, envelope[:, None], directions, geometry)
        return state, message, envelope[:, None]

    def scores(self, flat: FlatUnits, geometry: CrystalGeometry | None, conditions: Conditions) -> Scores:
        """Sigma times the score of each process, before projection onto what sites allow."""
        geometry = geometry or crystal_geometry(flat, self.kinds, self.settings.cutoff, self.settings.basis)
        state, message, envelope = self._encode(flat, geometry, conditions)
        readout = torch.cat([message, (state[geometry.target] + state[geometry.source]) * envelope], -1)
        force = state.new_zeros(flat.n_units, 3)
        torque = state.new_zeros(flat.n_units, 3)
        for (p, q), block in geometry.blocks.items():
            key, rows, target = f"{p}_{q}", readout[block.rows], geometry.target[block.rows]
            weight = self.force[key](rows) * envelope[block.rows]
            force = force.index_add(0, target, (weight[:, None] @ block.force)[:, 0])
            if block.torque is not None:
                weight = self.torque[key](rows) * envelope[block.rows]
                torque = torque.index_add(0, target, (weight[:, None] @ block.torque)[:, 0])
        weight = self.strain(readout) * envelope
        outer = geometry.direction[:, :, None] * geometry.direction[:, None]
        tensor = weight[:, :1, None] * outer + weight[:, 1:, None] * torch.eye(3, dtype=state.dtype)
        crystal = flat.crystal[geometry.target]
        order = conditions.sites.multiplicity.to(state.dtype)
        total = state.new_zeros(flat.n_crystals).index_add(0, flat.crystal, order)
        share = (order / total[flat.crystal])[geometry.target][:, None, None]
        strain = state.new_zeros(flat.n_crystals, 3, 3).index_add(0, crystal, share * tensor)
        return Scores(force, torque, strain)

    def energies(self, flat: FlatUnits, geometry: CrystalGeometry | None, conditions: Conditions) -> Tensor:
        """Standardised energy per formula unit (C,): the mean over all units of the crystal."""
        geometry = geometry or crystal_geometry(flat, self.kinds, self.settings.cutoff, self.settings.basis)
        state, _, _ = self._encode(flat, geometry, conditions)
        order = conditions.sites.multiplicity.to(state.dtype)
        total = state.new_zeros(flat.n_crystals).index_add(0, flat.crystal, order)
        each = self.energy(state)[:, 0] * order / total[flat.crystal]
        return state.new_zeros(flat.n_crystals).index_add(0, flat.crystal, each)

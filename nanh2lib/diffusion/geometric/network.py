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
from typing import Literal, Protocol

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
    radial : int
        Distance functions.
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
    cutoff: float = Field(default=5.0, gt=1)
    radial: int = Field(default=16, ge=4)
    condition_on_space_group: bool = True
    condition_on_site: bool = True
    architecture: Literal["graph", "plain"] = "graph"
    plain_hidden: tuple[int, ...] = (256, 256, 256)

    @property
    def basis(self) -> RadialBasis:
        """Distance functions out to the cutoff and a little more (atoms stick out of their units)."""
        return RadialBasis(self.radial, end=self.cutoff + 1.0)


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
    """One round of messages; what depends on an edge alone comes in ready, for all layers at once."""

    def __init__(self, features: int, channels: int) -> None:
        super().__init__()
        self.on_target = nn.Linear(features, features)
        self.on_source = nn.Linear(features, features, bias=False)
        self.vectors = nn.Linear(features, channels, bias=False)
        self.mix = nn.Linear(channels, 2 * channels, bias=False)
        self.norm = nn.LayerNorm(features)
        self.update = nn.Sequential(
            nn.Linear(2 * features + 2 * channels, features), nn.SiLU(), nn.Linear(features, features)
        )

    def forward(self, state: Tensor, edge: Tensor, envelope: Tensor, directions: Tensor, ends: Ends) -> Tensor:
        scaled = self.norm(state)
        message = edge_state(edge, self.on_target(scaled), self.on_source(scaled), ends) * envelope
        units = state.new_zeros(state.shape).index_add(0, ends.target, message) / NEIGHBOURS
        weighted = (self.vectors(message)[:, :, None] * directions).flatten(1)  # (E, channels * 3)
        vectors = state.new_zeros(len(state), weighted.shape[1]).index_add(0, ends.target, weighted)
        vectors = vectors.unflatten(1, (-1, 3)) / math.sqrt(NEIGHBOURS)
        first, second = self.mix(vectors.transpose(1, 2)).chunk(2, -1)
        products = torch.cat([(vectors**2).sum(-1), (first * second).sum(1)], -1)
        change: Tensor = self.update(torch.cat([scaled, units, products], -1))
        return state + change


class Ends(Protocol):
    """Units (E,) at the ends of edges."""

    @property
    def target(self) -> Tensor: ...

    @property
    def source(self) -> Tensor: ...


def edge_state(edge: Tensor, on_target: Tensor, on_source: Tensor, ends: Ends) -> Tensor:
    """Nonlinear function (E, F) of an edge (E, F) and of its two units (N, F)."""
    hidden = edge + on_target.index_select(0, ends.target) + on_source.index_select(0, ends.source)
    return nn.functional.silu(hidden)


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
        sizes = {f"{p}_{q}": class_pairs(kinds, p, q) * basis.count for p, q in pairs}
        rounds = settings.layers + (head == "score")
        self.edge = nn.ModuleDict({key: nn.Linear(n, rounds * width) for key, n in sizes.items()})
        self.direction = nn.ModuleDict({key: nn.Linear(n, channels, bias=False) for key, n in sizes.items()})
        self.layers = nn.ModuleList(_Layer(width, channels) for _ in range(settings.layers))
        if head == "score":
            self.on_target = nn.Linear(width, width)
            self.on_source = nn.Linear(width, width, bias=False)
            self.force = nn.ModuleDict({key: nn.Linear(width, n) for key, n in sizes.items()})
            self.torque = nn.ModuleDict({key: nn.Linear(width, n) for key, n in sizes.items()})
            self.strain = nn.Linear(width, 2)
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

    def _start(self, flat: FlatUnits, geometry: CrystalGeometry, conditions: Conditions) -> tuple[Tensor, Tensor]:
        """Scalars of units (N, F) before any message, and what the noise level does to them (N, 2 F layers)."""
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
        return state, modulation

    def _edges(self, geometry: CrystalGeometry, like: Tensor) -> tuple[Tensor, Tensor]:
        """Inputs of edges to every round (E, rounds * F), and their vectors (E, channels, 3)."""
        edges = [like.new_zeros(0, (len(self.layers) + (self.head == "score")) * self.settings.features)]
        directions = [like.new_zeros(0, self.settings.channels, 3)]
        for (p, q), block in geometry.blocks.items():
            key = f"{p}_{q}"
            edges.append(self.edge[key](block.radial))
            by_class = self.direction[key].get_parameter("weight").T.unflatten(0, (-1, block.basis.shape[-1]))
            weights = torch.bmm(block.basis, by_class[block.classes])  # (A, E', channels)
            directions.append(weights.permute(1, 2, 0) @ block.direction.transpose(0, 1))
        return torch.cat(edges), torch.cat(directions)

    def _encode(
        self, flat: FlatUnits, geometry: CrystalGeometry, conditions: Conditions
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Scalars of units (N, F), input of edges to the readout (E, F or 0), envelope (E, 1)."""
        state, modulation = self._start(flat, geometry, conditions)
        edge, directions = self._edges(geometry, state)
        envelope = 0.5 * (1 + torch.cos(math.pi * geometry.distance / self.settings.cutoff)).to(state.dtype)[:, None]
        rounds = edge.split(self.settings.features, -1)
        for number, (layer, change) in enumerate(zip(self.layers, modulation.chunk(len(self.layers), -1), strict=True)):
            scale, shift = change.chunk(2, -1)
            state = layer(state * (1 + scale) + shift, rounds[number], envelope, directions, geometry)
        return state, rounds[-1], envelope

    def scores(self, flat: FlatUnits, geometry: CrystalGeometry | None, conditions: Conditions) -> Scores:
        """Sigma times the score of each process, before projection onto what sites allow."""
        geometry = geometry or crystal_geometry(flat, self.kinds, self.settings.cutoff, self.settings.basis)
        state, edge, envelope = self._encode(flat, geometry, conditions)
        readout = edge_state(edge, self.on_target(state), self.on_source(state), geometry) * envelope
        force = state.new_zeros(flat.n_units, 3)
        torque = state.new_zeros(flat.n_units, 3)
        for (p, q), block in geometry.blocks.items():
            key, rows = f"{p}_{q}", readout[block.rows]
            target, weight = geometry.target[block.rows], envelope[block.rows]
            pull = (block.pair_weights(self.force[key](rows)) * block.direction).sum(0) * weight
            force = force.index_add(0, target, pull)
            if block.lever is not None:
                twist = (block.pair_weights(self.torque[key](rows)) * block.lever).sum(0) * weight
                torque = torque.index_add(0, target, twist)
        return Scores(force, torque, self._strain(flat, geometry, conditions, readout, envelope))

    def _strain(
        self, flat: FlatUnits, geometry: CrystalGeometry, conditions: Conditions, readout: Tensor, envelope: Tensor
    ) -> Tensor:
        weight = self.strain(readout) * envelope
        outer = geometry.direction[:, :, None] * geometry.direction[:, None]
        tensor = weight[:, :1, None] * outer + weight[:, 1:, None] * torch.eye(3, dtype=readout.dtype)
        crystal = flat.crystal[geometry.target]
        order = conditions.sites.multiplicity.to(readout.dtype)
        total = readout.new_zeros(flat.n_crystals).index_add(0, flat.crystal, order)
        share = (order / total[flat.crystal])[geometry.target][:, None, None]
        return readout.new_zeros(flat.n_crystals, 3, 3).index_add(0, crystal, share * tensor)

    def energies(self, flat: FlatUnits, geometry: CrystalGeometry | None, conditions: Conditions) -> Tensor:
        """Standardised energy per formula unit (C,): the mean over all units of the crystal."""
        geometry = geometry or crystal_geometry(flat, self.kinds, self.settings.cutoff, self.settings.basis)
        state, _, _ = self._encode(flat, geometry, conditions)
        order = conditions.sites.multiplicity.to(state.dtype)
        total = state.new_zeros(flat.n_crystals).index_add(0, flat.crystal, order)
        each = self.energy(state)[:, 0] * order / total[flat.crystal]
        return state.new_zeros(flat.n_crystals).index_add(0, flat.crystal, each)

"""A multilayer perceptron on fractional coordinates and rotation matrices: the ablation of the graph network.

It sees each unit in its place in a list, so neither the order of units nor the choice of origin or
symmetry image is taken care of; only lattice translations are (through sines and cosines).
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn

from nanh2lib.diffusion.geometric.features import CrystalGeometry
from nanh2lib.diffusion.geometric.flat_units import FlatUnits
from nanh2lib.diffusion.geometric.graph import UnitKinds, unit_kinds
from nanh2lib.diffusion.geometric.network import (
    Conditions,
    NetworkSettings,
    Scores,
    UnitNetwork,
    level_embedding,
)
from nanh2lib.errors import InputError

PER_UNIT = 16
"""Sine and cosine of three fractions, nine entries of the rotation, one flag that the slot is used."""


class PlainNetwork(UnitNetwork):
    """Perceptron with a score head or an energy head.

    Parameters
    ----------
    kinds : UnitKinds
    slots : tuple of int
        Most units of each kind on one template of the training set.
    n_halls, settings, head, noised, generator
        As for `CrystalNetwork`; ``settings.plain_hidden`` are the hidden layers.
    """

    def __init__(
        self,
        kinds: UnitKinds,
        slots: tuple[int, ...],
        n_halls: int,
        settings: NetworkSettings,
        *,
        head: Literal["score", "energy"],
        noised: bool,
        generator: torch.Generator,
    ) -> None:
        super().__init__(kinds, settings, noised)
        self.slots = slots
        places = sum(slots)
        width = PER_UNIT * places + 32
        self.hall = nn.Embedding(n_halls + 1, 32)
        layers: list[nn.Module] = []
        for hidden in settings.plain_hidden:
            layers += [nn.Linear(width + (32 if not layers else 0), hidden), nn.SiLU()]
            width = hidden
        self.layers = nn.Sequential(*layers, nn.Linear(width, 6 * places if head == "score" else 1))
        for layer in self.layers:
            if isinstance(layer, nn.Linear):
                nn.init.kaiming_uniform_(layer.weight, nonlinearity="relu", generator=generator)
                nn.init.zeros_(layer.bias)
        nn.init.normal_(self.hall.weight, std=0.3, generator=generator)

    def geometry(self, flat: FlatUnits) -> CrystalGeometry | None:
        """It has no use for neighbours."""
        return None

    def _places(self, flat: FlatUnits) -> Tensor:
        """Slot (N,) of each unit in the list of its crystal."""
        numbers = unit_kinds(flat, self.kinds)
        starts = [sum(self.slots[:kind]) for kind in range(len(self.slots))]
        place = torch.zeros(flat.n_units, dtype=torch.int64)
        for kind, most in enumerate(self.slots):
            rows = (numbers == kind).nonzero().squeeze(-1)
            owner = flat.crystal[rows]
            counts = torch.bincount(owner, minlength=flat.n_crystals)
            if len(counts) and int(counts.max()) > most:
                raise InputError(
                    f"the plain network has room for {most} units of kind {self.kinds.units[kind].name}, "
                    f"a crystal has {int(counts.max())}; use the network 'graph' for templates outside the training set"
                )
            place[rows] = starts[kind] + torch.arange(len(rows)) - (torch.cumsum(counts, 0) - counts)[owner]
        return place

    def _answer(self, flat: FlatUnits, place: Tensor, conditions: Conditions) -> Tensor:
        phase = 2 * math.pi * flat.frac_origins
        flag = torch.ones(flat.n_units, 1, dtype=phase.dtype)
        unit = torch.cat([phase.sin(), phase.cos(), flat.rotations.flatten(1), flag], -1)
        listed = unit.new_zeros(flat.n_crystals, sum(self.slots), PER_UNIT)
        listed = listed.index_put((flat.crystal, place), unit).flatten(1)
        hall = self.hall(conditions.hall).to(unit.dtype)
        level = unit.new_zeros(flat.n_crystals, 32)
        if not self.settings.condition_on_space_group:
            hall = torch.zeros_like(hall)
        if self.noised and conditions.log_sigma is not None:
            level = level_embedding(conditions.log_sigma.to(unit.dtype), 32)
        answer: Tensor = self.layers(torch.cat([listed, hall, level], -1))
        return answer

    def scores(self, flat: FlatUnits, geometry: CrystalGeometry | None, conditions: Conditions) -> Scores:
        """As `CrystalNetwork.scores`; it predicts no strain."""
        place = self._places(flat)
        answer = self._answer(flat, place, conditions).unflatten(1, (-1, 6))[flat.crystal, place]
        return Scores(answer[:, :3], answer[:, 3:], answer.new_zeros(flat.n_crystals, 3, 3))

    def energies(self, flat: FlatUnits, geometry: CrystalGeometry | None, conditions: Conditions) -> Tensor:
        """As `CrystalNetwork.energies`."""
        return self._answer(flat, self._places(flat), conditions)[:, 0]

"""Where the lattices of a random search come from: a fixed cell, ranges, or a target volume."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor

from nanh2lib.crystal.space_group import SpaceGroup
from nanh2lib.errors import ComputationError, InputError
from nanh2lib.geometry.lattice import lattice_is_valid, lattice_parameters_to_matrix
from nanh2lib.settings import StageSettings

Six = tuple[float, float, float, float, float, float]

ALPHA_CELL: Six = (8.964, 10.456, 8.073, 90.0, 90.0, 90.0)
"""Conventional cell of alpha-NaNH2, A and degrees (Zalkin and Templeton, J. Phys. Chem. 60, 821 (1956))."""
MAX_TRIES = 2000
_PROBES = 256


@lru_cache(maxsize=1024)
def _fixed_cell(parameters: Six, hall_number: int) -> Tensor:
    group = SpaceGroup.from_hall(hall_number)
    given = torch.tensor(parameters, dtype=torch.float64)
    if not group.allows_lattice(given):
        raise InputError(
            f"the cell {list(parameters)} does not have the metric symmetry of {group.symbol} "
            f"(Hall {hall_number}); choose another group, or a lattice prior of kind 'ranges' or 'volume'"
        )
    return group.symmetrize_lattice(given)


class LatticePrior(StageSettings):
    """Distribution of lattice parameters; every draw is symmetrised to its group.

    Attributes
    ----------
    kind : {"fixed", "ranges", "volume"}
        One cell; each parameter uniform between bounds; or a random shape scaled to a volume.
    parameters : tuple of 6 floats
        ``fixed``: a, b, c in A; alpha, beta, gamma in degrees.
    lower, upper : tuple of 6 floats, optional
        ``ranges``: bounds, A and degrees. Symmetrised cells outside them are drawn again.
    volume_per_formula_unit : float, optional
        ``volume``: A^3.
    volume_tolerance : float
        ``volume``: volumes are uniform within this fraction of the target.
    max_aspect : float
        ``volume``: longest edge over shortest, at most.
    min_angle, max_angle : float
        ``volume``: bounds of the angles, degrees.
    """

    kind: Literal["fixed", "ranges", "volume"] = "fixed"
    parameters: Six = ALPHA_CELL
    lower: Six | None = None
    upper: Six | None = None
    volume_per_formula_unit: float | None = Field(default=None, gt=0)
    volume_tolerance: float = Field(default=0.1, ge=0, lt=1)
    max_aspect: float = Field(default=3.0, ge=1)
    min_angle: float = Field(default=60.0, gt=0, lt=180)
    max_angle: float = Field(default=120.0, gt=0, lt=180)

    @model_validator(mode="after")
    def _complete(self) -> LatticePrior:
        if self.kind == "fixed" and not bool(lattice_is_valid(torch.tensor(self.parameters))):
            raise ValueError(f"{list(self.parameters)} is not a cell: a, b, c in A, then three angles that close")
        if self.kind == "ranges":
            if self.lower is None or self.upper is None:
                raise ValueError("kind 'ranges' needs lower and upper, six numbers each")
            if any(low > high for low, high in zip(self.lower, self.upper, strict=True)):
                raise ValueError("a lower bound is above its upper bound")
            if min(self.lower) <= 0:
                raise ValueError("lower bounds must be positive")
        if self.kind == "volume":
            if self.volume_per_formula_unit is None:
                raise ValueError("kind 'volume' needs volume_per_formula_unit in A^3")
            if not self.min_angle <= 90 <= self.max_angle:
                raise ValueError("min_angle and max_angle must enclose 90 degrees")
        return self

    def allows(self, hall_number: int) -> bool:
        """True when the prior holds cells with the metric symmetry of the group.

        For ranges and volumes this is decided by 256 draws from a generator of its own.
        """
        group = SpaceGroup.from_hall(hall_number)
        if self.kind == "fixed":
            return group.allows_lattice(self.parameters)
        generator = torch.Generator().manual_seed(hall_number)
        return bool(self._accepted(self._symmetrised(group, _PROBES, 1, generator)).any())

    def sample(self, hall_number: int, z: int, generator: torch.Generator) -> Tensor:
        """One set of lattice parameters with the metric symmetry of the group.

        Parameters
        ----------
        hall_number : int
        z : int
            Formula units in the conventional cell.
        generator : torch.Generator

        Returns
        -------
        Tensor, shape (6,)
            float64, A and degrees.

        Raises
        ------
        InputError
            A fixed cell that the group does not allow.
        ComputationError
            Nothing in 2000 tries: the bounds and the group nearly exclude each other.
        """
        if self.kind == "fixed":
            return _fixed_cell(self.parameters, hall_number).clone()
        group = SpaceGroup.from_hall(hall_number)
        for _ in range(MAX_TRIES // 20):
            drawn = self._symmetrised(group, 20, z, generator)
            accepted = self._accepted(drawn)
            if bool(accepted.any()):
                return drawn[int(accepted.to(torch.int64).argmax())]
        raise ComputationError(
            f"lattice prior {self.kind!r}: none of {MAX_TRIES} cells with the symmetry of {group.symbol} "
            f"(Hall {hall_number}) lies inside the bounds; widen them or leave the group out"
        )

    def _symmetrised(self, group: SpaceGroup, count: int, z: int, generator: torch.Generator) -> Tensor:
        uniform = torch.rand(count, 7, generator=generator, dtype=torch.float64)
        if self.kind == "ranges":
            lower, upper = torch.tensor(self.lower, dtype=torch.float64), torch.tensor(self.upper, dtype=torch.float64)
            return group.symmetrize_lattice(lower + (upper - lower) * uniform[:, :6])
        lengths = torch.exp(uniform[:, :3] * math.log(self.max_aspect))
        angles = self.min_angle + (self.max_angle - self.min_angle) * uniform[:, 3:6]
        shape = torch.cat([lengths, angles], 1)
        # A valid shape first: cells whose angles do not close turn into right-angled ones.
        closed = lattice_is_valid(shape, 0.0)
        shape = torch.where(closed[:, None], shape, torch.cat([lengths, torch.full_like(angles, 90.0)], 1))
        symmetrised = group.symmetrize_lattice(shape)
        mean = float(self.volume_per_formula_unit or 0.0) * z
        target = mean * (1 + self.volume_tolerance * (2 * uniform[:, 6:] - 1))
        volume = torch.linalg.det(lattice_parameters_to_matrix(symmetrised)).abs()[:, None]
        return torch.cat([symmetrised[:, :3] * (target / volume) ** (1 / 3), symmetrised[:, 3:]], 1)

    def _accepted(self, parameters: Tensor) -> Tensor:
        valid = lattice_is_valid(parameters)
        if self.kind == "ranges":
            lower = torch.tensor(self.lower, dtype=torch.float64) - 1e-9
            upper = torch.tensor(self.upper, dtype=torch.float64) + 1e-9
            return valid & ((parameters >= lower) & (parameters <= upper)).all(-1)
        lengths, angles = parameters[:, :3], parameters[:, 3:]
        round_enough = lengths.amax(-1) <= lengths.amin(-1) * (self.max_aspect + 1e-9)
        # Special angles such as gamma = 120 of hexagonal cells are the group's, not the prior's, choice.
        inside = (angles >= min(self.min_angle, 60) - 1e-6) & (angles <= max(self.max_angle, 120) + 1e-6)
        return valid & round_enough & inside.all(-1)

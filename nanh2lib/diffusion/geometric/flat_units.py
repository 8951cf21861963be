"""Asymmetric units of many templates side by side: one row for each unit, as graph networks want them."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from nanh2lib.crystal.asymmetric_unit import AsymmetricUnit, Template
from nanh2lib.crystal.expansion import project
from nanh2lib.diffusion.geometric.tables import SiteData, TemplateTables, template_tables
from nanh2lib.geometry.lattice import lattice_parameters_to_matrix, matrix_to_lattice_parameters
from nanh2lib.geometry.rotations import random_rotations, rotation_vector_to_matrix


@dataclass(frozen=True)
class FlatUnits:
    """The independent units of C crystals, N in all.

    Attributes
    ----------
    tables : tuple of TemplateTables, length C
        Template of each crystal, with what follows from it.
    lattice : Tensor, shape (C, 3, 3)
        Rows, A.
    frac_origins : Tensor, shape (N, 3)
    rotations : Tensor, shape (N, 3, 3)
    crystal : Tensor of int, shape (N,)
        Which crystal a unit belongs to; sorted.
    number : Tensor of int, shape (N,)
        Place of the unit in its template.
    """

    tables: tuple[TemplateTables, ...]
    lattice: Tensor
    frac_origins: Tensor
    rotations: Tensor
    crystal: Tensor
    number: Tensor

    @classmethod
    def of(cls, parts: Sequence[AsymmetricUnit]) -> FlatUnits:
        """Units of several batches, crystal after crystal."""
        tables: list[TemplateTables] = []
        crystal, number = [], []
        for part in parts:
            size, units = part.batch_size, part.template.n_units
            crystal.append(len(tables) + torch.arange(size).repeat_interleave(units))
            number.append(torch.arange(units).repeat(size))
            tables += [template_tables(part.template)] * size
        return cls(
            tuple(tables),
            torch.cat([lattice_parameters_to_matrix(part.lattice_parameters) for part in parts]),
            torch.cat([part.frac_origins.reshape(-1, 3) for part in parts]),
            torch.cat([part.rotations.reshape(-1, 3, 3) for part in parts]),
            torch.cat(crystal),
            torch.cat(number),
        )

    @property
    def n_crystals(self) -> int:
        return len(self.tables)

    @property
    def n_units(self) -> int:
        return len(self.crystal)

    def replace(self, **changes: Tensor) -> FlatUnits:
        """Copy with some fields changed."""
        return dataclasses.replace(self, **changes)  # type: ignore[arg-type]

    def to(self, dtype: torch.dtype) -> FlatUnits:
        """Copy in another precision."""
        return self.replace(
            lattice=self.lattice.to(dtype), frac_origins=self.frac_origins.to(dtype), rotations=self.rotations.to(dtype)
        )

    def unit_lattice(self) -> Tensor:
        """Lattice (N, 3, 3) of each unit's crystal."""
        return self.lattice[self.crystal]

    def site_data(self) -> SiteData:
        """What the site of each unit allows."""
        return SiteData.cat([table.sites for table in self.tables])

    def handedness(self) -> Tensor:
        """Handedness (N,) of each unit, in the precision of the coordinates."""
        return torch.cat([table.handedness for table in self.tables]).to(self.frac_origins.dtype)

    def select(self, crystals: Tensor) -> FlatUnits:
        """Some of the crystals, in the order given.

        Parameters
        ----------
        crystals : Tensor of int, shape (K,)
        """
        sizes = torch.tensor([table.n_units for table in self.tables])
        starts = torch.cumsum(sizes, 0) - sizes
        chosen = sizes[crystals]
        crystal = torch.arange(len(crystals)).repeat_interleave(chosen)
        number = torch.arange(len(crystal)) - (torch.cumsum(chosen, 0) - chosen)[crystal]
        rows = starts[crystals][crystal] + number
        return FlatUnits(
            tuple(self.tables[i] for i in crystals.tolist()),
            self.lattice[crystals],
            self.frac_origins[rows],
            self.rotations[rows],
            crystal,
            number,
        )


def moved(flat: FlatUnits, shift: Tensor, turn: Tensor) -> FlatUnits:
    """Units after Cartesian shifts (N, 3), A, and left turns (N, 3), radians; differentiable."""
    return flat.replace(
        frac_origins=flat.frac_origins + (shift[:, None] @ torch.linalg.inv(flat.unit_lattice()))[:, 0],
        rotations=rotation_vector_to_matrix(turn) @ flat.rotations,
    )


def uniform_orientations(template: Template, lattice_parameters: Tensor, generator: torch.Generator) -> Tensor:
    """Orientations (B, U, 3, 3), float64, uniform over what each site allows.

    Haar-random orientations projected onto the site: the projection commutes with the turns that
    the site allows, so the result is uniform over them.

    Parameters
    ----------
    template : Template
    lattice_parameters : Tensor, shape (B, 6)
        Their number sets the batch.
    generator : torch.Generator
    """
    count, units = len(lattice_parameters), template.n_units
    rotations = random_rotations(count * units, generator).reshape(count, units, 3, 3)
    single = torch.tensor([site.unit.is_monatomic for site in template.sites])
    rotations = torch.where(single[None, :, None, None], torch.eye(3, dtype=torch.float64), rotations)
    origins = torch.zeros(count, units, 3, dtype=torch.float64)
    return project(AsymmetricUnit(template, lattice_parameters.to(torch.float64), origins, rotations)).rotations


def batches_of(flat: FlatUnits) -> list[AsymmetricUnit]:
    """Batches of asymmetric units again, one for each run of equal templates.

    Lattices in any orientation are turned so that **a** lies along x and **b** in the xy plane,
    and the units with them.
    """
    parameters = matrix_to_lattice_parameters(flat.lattice)
    standard = lattice_parameters_to_matrix(parameters)
    turn = (torch.linalg.inv(flat.lattice) @ standard).transpose(-1, -2)  # acts on column vectors
    rotations = turn[flat.crystal] @ flat.rotations
    single = torch.tensor([s.unit.is_monatomic for t in flat.tables for s in t.template.sites])
    rotations = torch.where(single[:, None, None], torch.eye(3, dtype=rotations.dtype), rotations)
    result, first, crystal = [], 0, 0
    while crystal < flat.n_crystals:
        table = flat.tables[crystal]
        last = crystal
        while last < flat.n_crystals and flat.tables[last] is table:
            last += 1
        template = table.template
        size, units = last - crystal, template.n_units
        rows = slice(first, first + size * units)
        result.append(
            AsymmetricUnit(
                template,
                parameters[crystal:last],
                flat.frac_origins[rows].reshape(size, units, 3),
                rotations[rows].reshape(size, units, 3, 3),
            )
        )
        first, crystal = rows.stop, last
    return result

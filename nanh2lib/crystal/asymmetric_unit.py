"""Templates (which units on which sites) and asymmetric units (where they are), in batches."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nanh2lib.crystal.orientation import orientation_modes
from nanh2lib.crystal.rigid_unit import Compound, RigidUnit
from nanh2lib.crystal.space_group import SpaceGroup, WyckoffSite
from nanh2lib.errors import InputError


@dataclass(frozen=True)
class Site:
    """A rigid unit on a Wyckoff site.

    Attributes
    ----------
    unit : RigidUnit
    wyckoff_letter : str
    orientation_mode : int
        Which of `orientation_modes` the unit takes on a special position.
    handedness : int
        +1, or -1 for the mirror image of a chiral unit.
    """

    unit: RigidUnit
    wyckoff_letter: str
    orientation_mode: int = 0
    handedness: int = 1


@dataclass(frozen=True)
class Template:
    """A space group and a site for each unit of the asymmetric unit.

    Attributes
    ----------
    hall_number : int
        Of the space group and its setting, 1 to 530.
    sites : tuple of Site
        One for each unit; they fix the length D of z.

    Raises
    ------
    InputError
        A site does not exist in the group, or its symmetry does not fit the unit's.
    """

    hall_number: int
    sites: tuple[Site, ...]

    def __post_init__(self) -> None:
        if not self.sites:
            raise InputError(f"template in Hall {self.hall_number}: no unit given; name at least one site")
        group = SpaceGroup.from_hall(self.hall_number)
        for site in self.sites:
            wyckoff = group.site(site.wyckoff_letter)
            modes = orientation_modes(site.unit, self.hall_number, site.wyckoff_letter)
            if site.handedness not in (1, -1):
                raise InputError(f"unit {site.unit.name}: handedness {site.handedness!r} must be 1 or -1")
            if not modes:
                raise InputError(
                    f"unit {site.unit.name} (point group {site.unit.point_group[0]}) cannot sit on site "
                    f"{wyckoff.label} of {group.symbol}, whose symmetry is {wyckoff.site_symmetry}; "
                    "choose a site of lower symmetry"
                )
            if not 0 <= site.orientation_mode < len(modes):
                raise InputError(
                    f"unit {site.unit.name} on {wyckoff.label} of {group.symbol}: orientation mode "
                    f"{site.orientation_mode} does not exist; it has {len(modes)}"
                )

    @property
    def space_group(self) -> SpaceGroup:
        return SpaceGroup.from_hall(self.hall_number)

    @cached_property
    def wyckoff_sites(self) -> tuple[WyckoffSite, ...]:
        return tuple(self.space_group.site(site.wyckoff_letter) for site in self.sites)

    @property
    def multiplicities(self) -> tuple[int, ...]:
        """Copies of each unit in the conventional cell."""
        return tuple(site.multiplicity for site in self.wyckoff_sites)

    @property
    def n_units(self) -> int:
        """Units in the asymmetric unit."""
        return len(self.sites)

    @property
    def n_atoms(self) -> int:
        """Atoms in the conventional cell."""
        return sum(m * s.unit.n_atoms for m, s in zip(self.multiplicities, self.sites, strict=True))

    @property
    def label(self) -> str:
        """Short name such as ``"P2_1/c[81] Na:4e,4e NH2:4e,4e"``."""
        kinds: dict[str, list[str]] = {}
        for site, wyckoff in zip(self.sites, self.wyckoff_sites, strict=True):
            kinds.setdefault(site.unit.name, []).append(wyckoff.label)
        parts = " ".join(f"{name}:{','.join(labels)}" for name, labels in kinds.items())
        return f"{self.space_group.symbol}[{self.hall_number}] {parts}"

    def formula_units(self, compound: Compound) -> int:
        """Formula units Z in the conventional cell, from the multiplicities."""
        z = {
            sum(m for m, s in zip(self.multiplicities, self.sites, strict=True) if s.unit == unit) / count
            for unit, count in zip(compound.units, compound.counts, strict=True)
        }
        if len(z) != 1 or next(iter(z)) != round(next(iter(z))):
            raise InputError(f"template {self.label} is not a whole number of {compound.name}")
        return int(next(iter(z)))

    def to_dict(self) -> dict[str, Any]:
        return {
            "hall_number": self.hall_number,
            "sites": [
                {
                    "unit": site.unit.to_dict(),
                    "wyckoff_letter": site.wyckoff_letter,
                    "orientation_mode": site.orientation_mode,
                    "handedness": site.handedness,
                }
                for site in self.sites
            ],
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Template:
        sites = tuple(
            Site(
                RigidUnit.from_dict(site["unit"]),
                str(site["wyckoff_letter"]),
                int(site["orientation_mode"]),
                int(site["handedness"]),
            )
            for site in data["sites"]
        )
        return cls(int(data["hall_number"]), sites)

    @cached_property
    def layout(self) -> Layout:
        """Index tensors of the expansion (float64)."""
        return _layout(self)


@dataclass(frozen=True)
class Layout:
    """Which atom of the asymmetric unit and which operation makes each atom of the crystal.

    Atoms of the asymmetric unit (A of them) run over units, then over the unit's atoms; atoms
    of the crystal (N) run over units, then over images, then over the unit's atoms.

    Attributes
    ----------
    body : Tensor, shape (A, 3)
        Atoms in the frames of their units, A.
    atom_unit : Tensor of int, shape (A,)
        Unit of each.
    rotations, translations : Tensor, shapes (N, 3, 3) and (N, 3)
        Operation that makes each atom of the crystal, fractional.
    atom_index : Tensor of int, shape (N,)
        Which of the A atoms it is made from.
    image_index : Tensor of int, shape (N,)
        Which unit of the crystal it belongs to.
    species : tuple of str, length N
    origin_projection, origin_offset : Tensor, shapes (U, 3, 3) and (U, 3)
        Affine map of fractional origins onto their Wyckoff sites.
    """

    body: Tensor
    atom_unit: Tensor
    rotations: Tensor
    translations: Tensor
    atom_index: Tensor
    image_index: Tensor
    species: tuple[str, ...]
    origin_projection: Tensor
    origin_offset: Tensor

    def to(self, dtype: torch.dtype) -> Layout:
        """Copy with floating tensors of that type."""
        changes: dict[str, Any] = {
            name: value.to(dtype)
            for name, value in self.__dict__.items()
            if isinstance(value, Tensor) and value.is_floating_point()
        }
        return dataclasses.replace(self, **changes)


def _layout(template: Template) -> Layout:
    body, atom_unit, rotations, translations, atom_index, image_index = [], [], [], [], [], []
    species: list[str] = []
    first_atom = image = 0
    for unit_number, (site, wyckoff) in enumerate(zip(template.sites, template.wyckoff_sites, strict=True)):
        count = site.unit.n_atoms
        body.append(site.unit.body * site.handedness)
        atom_unit += [unit_number] * count
        for rotation, translation in zip(wyckoff.coset_rotations, wyckoff.coset_translations, strict=True):
            rotations += [rotation] * count
            translations += [translation] * count
            atom_index += list(range(first_atom, first_atom + count))
            image_index += [image] * count
            species += site.unit.species
            image += 1
        first_atom += count
    sites = template.wyckoff_sites
    return Layout(
        body=torch.as_tensor(np.concatenate(body)),
        atom_unit=torch.tensor(atom_unit),
        rotations=torch.as_tensor(np.array(rotations), dtype=torch.float64),
        translations=torch.as_tensor(np.array(translations)),
        atom_index=torch.tensor(atom_index),
        image_index=torch.tensor(image_index),
        species=tuple(species),
        origin_projection=torch.as_tensor(np.array([site.projection for site in sites])),
        origin_offset=torch.as_tensor(np.array([site.offset for site in sites])),
    )


@dataclass(frozen=True)
class AsymmetricUnit:
    """A batch of B crystals on one template, by their independent units only.

    Attributes
    ----------
    template : Template
    lattice_parameters : Tensor, shape (B, 6)
        a, b, c in A; alpha, beta, gamma in degrees.
    frac_origins : Tensor, shape (B, U, 3)
        Fractional coordinates of each unit's reference atom.
    rotations : Tensor, shape (B, U, 3, 3)
        Orientation of each unit, acting on body-frame column vectors; the Cartesian frame has
        **a** along x and **b** in the xy plane. Identity for single atoms.

    Raises
    ------
    InputError
        Shapes do not fit the template (expected and actual are given).
    """

    template: Template
    lattice_parameters: Tensor
    frac_origins: Tensor
    rotations: Tensor

    def __post_init__(self) -> None:
        batch, units = self.lattice_parameters.shape[0], self.template.n_units
        expected = {
            "lattice_parameters": (batch, 6),
            "frac_origins": (batch, units, 3),
            "rotations": (batch, units, 3, 3),
        }
        for name, shape in expected.items():
            tensor = getattr(self, name)
            if tuple(tensor.shape) != shape:
                raise InputError(f"AsymmetricUnit.{name}: expected shape {shape}, got {tuple(tensor.shape)}")
            if tensor.dtype != self.lattice_parameters.dtype:
                raise InputError(
                    f"AsymmetricUnit.{name}: dtype {tensor.dtype}, lattice {self.lattice_parameters.dtype}"
                )

    @property
    def batch_size(self) -> int:
        return int(self.lattice_parameters.shape[0])

    def __len__(self) -> int:
        return self.batch_size

    @property
    def units(self) -> tuple[RigidUnit, ...]:
        return tuple(site.unit for site in self.template.sites)

    @property
    def wyckoff_letters(self) -> tuple[str, ...]:
        return tuple(site.wyckoff_letter for site in self.template.sites)

    @property
    def multiplicities(self) -> tuple[int, ...]:
        return self.template.multiplicities

    @property
    def site_symmetries(self) -> tuple[str, ...]:
        return tuple(site.site_symmetry for site in self.template.wyckoff_sites)

    @property
    def hall_number(self) -> int:
        return self.template.hall_number

    @property
    def space_group_number(self) -> int:
        return self.template.space_group.number

    @property
    def dtype(self) -> torch.dtype:
        return self.lattice_parameters.dtype

    def replace(self, **changes: Any) -> AsymmetricUnit:
        """Copy with some fields changed."""
        return dataclasses.replace(self, **changes)

    def __getitem__(self, index: int | slice | Tensor) -> AsymmetricUnit:
        """Part of the batch; an integer gives a batch of one."""
        if isinstance(index, int):
            index = slice(index, index + 1 or None)
        return self.replace(
            lattice_parameters=self.lattice_parameters[index],
            frac_origins=self.frac_origins[index],
            rotations=self.rotations[index],
        )

    def to(self, dtype: torch.dtype) -> AsymmetricUnit:
        """Copy in float32 or float64."""
        return self.replace(
            lattice_parameters=self.lattice_parameters.to(dtype),
            frac_origins=self.frac_origins.to(dtype),
            rotations=self.rotations.to(dtype),
        )

    def detach(self) -> AsymmetricUnit:
        """Copy without gradient history."""
        return self.replace(
            lattice_parameters=self.lattice_parameters.detach(),
            frac_origins=self.frac_origins.detach(),
            rotations=self.rotations.detach(),
        )

    @classmethod
    def cat(cls, parts: list[AsymmetricUnit]) -> AsymmetricUnit:
        """Join batches on one template."""
        if not parts or any(part.template != parts[0].template for part in parts):
            raise InputError("AsymmetricUnit.cat: give at least one batch, all on the same template")
        return parts[0].replace(
            lattice_parameters=torch.cat([part.lattice_parameters for part in parts]),
            frac_origins=torch.cat([part.frac_origins for part in parts]),
            rotations=torch.cat([part.rotations for part in parts]),
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain lists for JSON, float64 values kept exactly."""
        return {
            "template": self.template.to_dict(),
            "lattice_parameters": self.lattice_parameters.tolist(),
            "frac_origins": self.frac_origins.tolist(),
            "rotations": self.rotations.tolist(),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> AsymmetricUnit:
        return cls(
            Template.from_dict(data["template"]),
            torch.tensor(data["lattice_parameters"], dtype=torch.float64),
            torch.tensor(data["frac_origins"], dtype=torch.float64),
            torch.tensor(data["rotations"], dtype=torch.float64),
        )

"""The observed vector z: numbers for each unit of the asymmetric unit, then the lattice (supplement).

Scheme ``split``: 3 Cartesian coordinates (A) of each unit's reference atom, and for molecules 3
components of the rotation vector (radians). Scheme ``paper``: one rigid NaNH2 subunit for each
pair, 3 Cartesian coordinates of N (A) and 3 intrinsic ZXZ Euler angles (radians). Both end with
a, b, c (A) and alpha, beta, gamma (degrees).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from nanh2lib.crystal.asymmetric_unit import AsymmetricUnit, Template
from nanh2lib.crystal.expansion import project
from nanh2lib.crystal.rigid_unit import NANH2, RigidUnit
from nanh2lib.crystal.subunits import to_subunits
from nanh2lib.errors import InputError
from nanh2lib.geometry.lattice import lattice_is_valid, lattice_parameters_to_matrix
from nanh2lib.geometry.rotations import (
    euler_zxz_to_matrix,
    matrix_to_euler_zxz,
    matrix_to_rotation_vector,
    rotation_vector_to_matrix,
)

Scheme = Literal["split", "paper"]
SCHEMES: tuple[str, ...] = get_args(Scheme)
N_LATTICE = 6


@dataclass(frozen=True)
class ZLayout:
    """Which entries of a (padded) z belong to what.

    Attributes
    ----------
    scheme : {"split", "paper"}
    units : tuple of RigidUnit
        Kinds of units, in order.
    slots : tuple of int
        Units of each kind that z has room for. Templates with fewer leave the rest masked.
    """

    scheme: Scheme
    units: tuple[RigidUnit, ...]
    slots: tuple[int, ...]

    @classmethod
    def for_templates(cls, templates: Sequence[Template], scheme: Scheme) -> ZLayout:
        """The smallest layout that holds all templates."""
        _check_scheme(scheme)
        if not templates:
            raise InputError("a z layout needs at least one template")
        kinds: list[RigidUnit] = []
        for template in templates:
            for site in template.sites:
                if site.unit not in kinds:
                    kinds.append(site.unit)
        kinds.sort(key=lambda unit: (unit.n_atoms, unit.name))
        slots = tuple(max(sum(s.unit == kind for s in t.sites) for t in templates) for kind in kinds)
        return cls(scheme, tuple(kinds), slots)

    @property
    def widths(self) -> tuple[int, ...]:
        """Numbers for one unit of each kind: 3, or 6 with an orientation."""
        return tuple(3 if unit.is_monatomic else 6 for unit in self.units)

    @property
    def dimension(self) -> int:
        """Length D of z."""
        return sum(w * n for w, n in zip(self.widths, self.slots, strict=True)) + N_LATTICE

    def columns(self, template: Template) -> list[Tensor]:
        """For each site of a template, the columns of z that describe it.

        Raises
        ------
        InputError
            The template has units that the layout has no room for.
        """
        used = [0] * len(self.units)
        starts = [0]
        for width, count in zip(self.widths, self.slots, strict=True):
            starts.append(starts[-1] + width * count)
        result = []
        for site in template.sites:
            if site.unit not in self.units:
                raise InputError(f"template {template.label}: unit {site.unit.name} is not part of this z layout")
            kind = self.units.index(site.unit)
            if used[kind] >= self.slots[kind]:
                raise InputError(
                    f"template {template.label}: more than the {self.slots[kind]} {site.unit.name} units "
                    "that z has room for"
                )
            first = starts[kind] + used[kind] * self.widths[kind]
            result.append(torch.arange(first, first + self.widths[kind]))
            used[kind] += 1
        return result

    def mask(self, template: Template) -> Tensor:
        """True (D,) where a template uses an entry of z."""
        mask = torch.zeros(self.dimension, dtype=torch.bool)
        for columns in self.columns(template):
            mask[columns] = True
        mask[-N_LATTICE:] = True
        return mask

    def encode(self, asymmetric_unit: AsymmetricUnit) -> Tensor:
        """Vectors z (B, D) of a batch; masked entries are zero."""
        unit = asymmetric_unit
        lattice = lattice_parameters_to_matrix(unit.lattice_parameters)
        cart = unit.frac_origins @ lattice
        z = torch.zeros(unit.batch_size, self.dimension, dtype=unit.dtype)
        to_numbers = matrix_to_euler_zxz if self.scheme == "paper" else matrix_to_rotation_vector
        for index, columns in enumerate(self.columns(unit.template)):
            z[:, columns[:3]] = cart[:, index]
            if len(columns) == 6:
                z[:, columns[3:]] = to_numbers(unit.rotations[:, index])
        z[:, -N_LATTICE:] = unit.lattice_parameters
        return z

    def decode(self, z: Tensor, template: Template) -> AsymmetricUnit:
        """Asymmetric units of vectors z (B, D), put exactly on the sites of the template.

        Raises
        ------
        InputError
            z has another length, is not finite, or its lattice parameters span no cell
            (see `decodable`).
        """
        good = self.decodable(z)
        if not bool(good.all()):
            first = int((~good).nonzero()[0])
            raise InputError(
                f"z[{first}] cannot be decoded: it is not finite or its lattice parameters "
                f"{[round(v, 3) for v in z[first, -N_LATTICE:].tolist()]} span no cell; "
                "drop such rows with ZLayout.decodable"
            )
        parameters = template.space_group.symmetrize_lattice(z[:, -N_LATTICE:])
        # Cartesian coordinates belong to the lattice that z itself names.
        inverse = torch.linalg.inv(lattice_parameters_to_matrix(z[:, -N_LATTICE:]))
        to_matrix = euler_zxz_to_matrix if self.scheme == "paper" else rotation_vector_to_matrix
        origins, rotations = [], []
        for columns in self.columns(template):
            origins.append((z[:, None, columns[:3]] @ inverse)[:, 0])
            if len(columns) == 6:
                rotations.append(to_matrix(z[:, columns[3:]]))
            else:
                rotations.append(torch.eye(3, dtype=z.dtype).expand(len(z), 3, 3))
        return project(AsymmetricUnit(template, parameters, torch.stack(origins, 1), torch.stack(rotations, 1)))

    def decodable(self, z: Tensor) -> Tensor:
        """Rows (B,) of z that are finite and whose lattice parameters span a cell."""
        if z.ndim != 2 or z.shape[1] != self.dimension:
            raise InputError(f"z: expected shape (B, {self.dimension}) for this layout, got {tuple(z.shape)}")
        return torch.isfinite(z).all(-1) & lattice_is_valid(torch.nan_to_num(z[:, -N_LATTICE:]))


def _check_scheme(scheme: str) -> None:
    if scheme not in SCHEMES:
        raise InputError(f"encoding scheme {scheme!r} does not exist; choose one of {', '.join(SCHEMES)}")


def encode(asymmetric_unit: AsymmetricUnit, scheme: Scheme = "split") -> Tensor:
    """Vector z of a batch of asymmetric units, without padding.

    Parameters
    ----------
    asymmetric_unit : AsymmetricUnit
        For scheme ``paper`` either NaNH2 subunits, or Na and NH2 units that can be paired.
    scheme : {"split", "paper"}

    Returns
    -------
    Tensor, shape (B, D)
        D = 3 x atoms + 6 x molecules + 6.

    Raises
    ------
    InputError
        Unknown scheme, or scheme ``paper`` cannot hold the template
        (`nanh2lib.crystal.subunits.SubunitError`).
    """
    _check_scheme(scheme)
    if scheme == "paper" and any(unit != NANH2 for unit in asymmetric_unit.units):
        asymmetric_unit = to_subunits(asymmetric_unit)
    return ZLayout.for_templates([asymmetric_unit.template], scheme).encode(asymmetric_unit)


def decode(z: Tensor, template: Template, scheme: Scheme = "split") -> AsymmetricUnit:
    """Asymmetric units of vectors z; inverse of `encode`.

    Parameters
    ----------
    z : Tensor, shape (B, D)
    template : Template
        Units and sites, in the order in which `encode` met them.
    scheme : {"split", "paper"}

    Returns
    -------
    AsymmetricUnit
        Exactly on its sites, with the metric symmetry of the group.

    Raises
    ------
    InputError
        See `ZLayout.decode`.
    """
    return ZLayout.for_templates([template], scheme).decode(z, template)

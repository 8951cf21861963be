"""Rigid units: the pieces (ions, molecules) that a crystal is built from.

A unit is data: species and body-frame coordinates about a reference point, which is its first
atom wherever the unit's symmetry leaves that atom in place (N for NH2), else the centroid.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pymatgen.core import Composition, Element

from nanh2lib.crystal.point_group import molecule_operations, schoenflies, standard_frame, symmetrized
from nanh2lib.errors import InputError
from nanh2lib.geometry.ordering import smallest_row

SYMMETRY_TOLERANCE = 0.02
"""Atoms (A) closer than this to their image count as mapped when a unit's point group is found."""


@dataclass(frozen=True)
class RigidUnit:
    """A rigid group of atoms, or a single atom.

    Attributes
    ----------
    name : str
        Label in tables and files.
    species : tuple of str
        Element symbols; the first is the reference atom where that is possible.
    coords : tuple of 3-tuples
        Body-frame Cartesian coordinates about the reference point, A. Linear units lie along x.
    """

    name: str
    species: tuple[str, ...]
    coords: tuple[tuple[float, float, float], ...] = field(default=((0.0, 0.0, 0.0),))

    def __post_init__(self) -> None:
        if not self.species or len(self.species) != len(self.coords):
            raise InputError(
                f"rigid unit {self.name!r}: {len(self.species)} species but {len(self.coords)} positions; "
                "give one position (x, y, z in A) for each atom"
            )
        for symbol in self.species:
            if not Element.is_valid_symbol(symbol):
                raise InputError(f"rigid unit {self.name!r}: {symbol!r} is not an element symbol")
        array = np.asarray(self.coords, dtype=float)
        if array.shape != (len(self.species), 3) or not np.isfinite(array).all():
            raise InputError(f"rigid unit {self.name!r}: positions must be finite x, y, z in A")
        gaps = np.linalg.norm(array[:, None] - array, axis=-1) + 10.0 * np.eye(len(array))
        if gaps.min() < 0.2:
            raise InputError(f"rigid unit {self.name!r}: two atoms are {gaps.min():.3f} A apart; check the positions")

    @property
    def n_atoms(self) -> int:
        return len(self.species)

    @property
    def body(self) -> NDArray[np.float64]:
        """Body-frame coordinates (n, 3), A."""
        return np.asarray(self.coords, dtype=np.float64)

    @property
    def is_monatomic(self) -> bool:
        return self.n_atoms == 1

    @cached_property
    def is_linear(self) -> bool:
        """True for two or more atoms on one line through the reference point."""
        return self.n_atoms > 1 and bool(np.linalg.matrix_rank(self.body, tol=1e-3) == 1)

    @property
    def composition(self) -> Composition:
        return Composition("".join(self.species))

    @property
    def point_group(self) -> tuple[str, NDArray[np.float64]]:
        """Schoenflies symbol and operations (G, 3, 3) about the reference point; see `unit_symmetry`."""
        return unit_symmetry(self)

    @cached_property
    def is_chiral(self) -> bool:
        """True when no improper operation maps the unit onto itself."""
        if self.is_monatomic or self.is_linear:
            return False
        return bool((np.linalg.det(unit_symmetry(self)[1]) > 0).all())

    def to_dict(self) -> dict[str, Any]:
        return {"name": self.name, "species": list(self.species), "coords": [list(c) for c in self.coords]}

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> RigidUnit:
        coords = tuple((float(x), float(y), float(z)) for x, y, z in data["coords"])
        return cls(str(data["name"]), tuple(str(s) for s in data["species"]), coords)

    @classmethod
    def from_atoms(cls, name: str, species: Sequence[str], cart_coords: Any) -> RigidUnit:
        """Unit from atoms anywhere in space, in any order.

        The geometry is made exactly symmetric under the point group found within
        `SYMMETRY_TOLERANCE`. The reference point is the atom closest to the centroid (the
        heavier one of two) among those that all operations leave in place, else the centroid.
        The frame is that of `nanh2lib.crystal.point_group.standard_frame` (NH2 comes out as in
        `NH2`); a linear unit lies along x.

        Parameters
        ----------
        name : str
        species : sequence of str
        cart_coords : array_like, shape (n, 3)
            A.

        Raises
        ------
        InputError
            Two atoms lie on one place, or see the class.
        """
        array = np.asarray(cart_coords, dtype=np.float64).reshape(-1, 3)
        if len(species) == 1:
            return cls(name, tuple(species))
        cls(name, tuple(species), _as_tuples(array))  # checks
        spread = array - array.mean(0)
        if np.linalg.matrix_rank(spread, tol=1e-2) == 1:
            return _linear_from_atoms(name, species, spread)
        exact = symmetrized(species, spread, SYMMETRY_TOLERANCE)
        moved = molecule_operations(species, exact, SYMMETRY_TOLERANCE) @ exact.T - exact.T
        fixed = np.flatnonzero(np.abs(moved).max((0, 1)) < 1e-3)
        if not len(fixed):
            order, body = standard_frame(species, exact)
            return cls(name, tuple(species[i] for i in order), _as_tuples(body))
        keys = np.array([[np.linalg.norm(exact[i]), -Element(species[i]).Z] for i in fixed.tolist()])
        reference = int(fixed[smallest_row(keys, 1e-2)])
        others = [i for i in range(len(species)) if i != reference]
        order, body = standard_frame([species[i] for i in others], exact[others] - exact[reference])
        names = (species[reference], *(species[others[i]] for i in order))
        return cls(name, names, ((0.0, 0.0, 0.0), *_as_tuples(body)))


def _as_tuples(array: NDArray[np.float64]) -> tuple[tuple[float, float, float], ...]:
    clean = np.round(array, 10) + 0.0  # no -0.0, no 1e-17
    return tuple((float(x), float(y), float(z)) for x, y, z in clean)


def _linear_from_atoms(name: str, species: Sequence[str], spread: NDArray[np.float64]) -> RigidUnit:
    along = spread @ np.linalg.svd(spread)[2][0]
    numbers = np.array([Element(symbol).Z for symbol in species], dtype=np.float64)
    along = along if numbers @ along >= 0 else -along
    order = np.argsort(along)
    names, x = [species[i] for i in order], along[order]
    reference: int | None
    if _ends_alike(names, x):
        x = (x - x[::-1]) / 2
        reference = len(x) // 2 if len(x) % 2 else None
    else:
        keys = np.stack([np.abs(x), -numbers[order]], axis=1)
        reference = smallest_row(keys, 1e-2)
        x = x - x[reference]
    rank = sorted(range(len(x)), key=lambda i: (i != reference, i))
    return RigidUnit(name, tuple(names[i] for i in rank), tuple((float(x[i]), 0.0, 0.0) for i in rank))


def _ends_alike(names: Sequence[str], x: NDArray[np.float64]) -> bool:
    """True when atoms on a line, in order, are their own mirror image about zero."""
    return list(names) == list(names)[::-1] and bool(np.abs(x + x[::-1]).max() < SYMMETRY_TOLERANCE)


@lru_cache(maxsize=256)
def unit_symmetry(unit: RigidUnit) -> tuple[str, NDArray[np.float64]]:
    """Point group of a unit.

    Parameters
    ----------
    unit : RigidUnit

    Returns
    -------
    symbol : str
        Schoenflies symbol; ``"K_h"`` for a single atom, ``"D_inf_h"`` or ``"C_inf_v"`` for atoms
        on a line.
    operations : ndarray, shape (G, 3, 3)
        Orthogonal matrices about the reference point, identity first. Single atoms and linear
        units, whose groups are infinite, give the identity only.
    """
    if unit.is_monatomic:
        return "K_h", np.eye(3)[None]
    if unit.is_linear:
        order = np.argsort(unit.body[:, 0])
        alike = _ends_alike([unit.species[i] for i in order], unit.body[order, 0])
        return ("D_inf_h" if alike else "C_inf_v"), np.eye(3)[None]
    operations = molecule_operations(unit.species, unit.body, SYMMETRY_TOLERANCE)
    operations.setflags(write=False)
    return schoenflies(operations), operations


NH_BOND = 1.03
"""N-H bond length of the rigid NH2 fragment, A (supplement)."""
HNH_ANGLE = 104.0
"""H-N-H angle of the rigid NH2 fragment, degrees (supplement)."""
NA_N_DISTANCE = 2.40
"""Na-N distance of the rigid NaNH2 subunit of scheme ``paper``, A: middle of the tables' 2.34 to 2.48."""

_X = NH_BOND * math.cos(math.radians(HNH_ANGLE / 2))
_Y = NH_BOND * math.sin(math.radians(HNH_ANGLE / 2))

NA = RigidUnit("Na", ("Na",))
"""Sodium ion."""
NH2 = RigidUnit("NH2", ("N", "H", "H"), ((0.0, 0.0, 0.0), (_X, _Y, 0.0), (_X, -_Y, 0.0)))
"""Amide ion: N at the origin, two-fold axis along +x towards the hydrogens, plane normal along z."""
NANH2 = RigidUnit(
    "NaNH2", ("N", "H", "H", "Na"), ((0.0, 0.0, 0.0), (_X, _Y, 0.0), (_X, -_Y, 0.0), (-NA_N_DISTANCE, 0.0, 0.0))
)
"""The supplement's rigid subunit: NH2 with Na on its bisector, on the side away from H (C2v)."""


@dataclass(frozen=True)
class Compound:
    """A list of rigid units and how many of each make one formula unit.

    Attributes
    ----------
    name : str
    units : tuple of RigidUnit
        The first kind is the anchor of the canonical asymmetric unit.
    counts : tuple of int
        Units of each kind per formula unit.
    """

    name: str
    units: tuple[RigidUnit, ...]
    counts: tuple[int, ...]

    def __post_init__(self) -> None:
        if not self.units or len(self.units) != len(self.counts) or min(self.counts) < 1:
            raise InputError(f"compound {self.name!r}: give a count of at least 1 for each rigid unit")

    @property
    def composition(self) -> Composition:
        """Atoms of one formula unit."""
        total = Composition({})
        for unit, count in zip(self.units, self.counts, strict=True):
            total += unit.composition * count
        return total

    @property
    def atoms_per_formula_unit(self) -> int:
        return sum(u.n_atoms * c for u, c in zip(self.units, self.counts, strict=True))

    def content(self) -> list[list[Any]]:
        """Units and counts as plain data, for hashes: what the compound is, whatever it is called."""
        return [[unit.to_dict(), count] for unit, count in zip(self.units, self.counts, strict=True)]

    def formula_units(self, composition: Composition) -> int:
        """Formula units Z in a cell of that composition.

        Raises
        ------
        InputError
            The composition is not a whole multiple of the compound.
        """
        z = composition.num_atoms / self.composition.num_atoms
        whole = round(z)
        if whole < 1 or not (self.composition * whole).almost_equals(composition, rtol=1e-6, atol=1e-6):
            raise InputError(
                f"composition {composition.formula!r} is not a whole number of {self.name} "
                f"({self.composition.formula}); check the structure or give another compound"
            )
        return whole


SODIUM_AMIDE = Compound("NaNH2", (NA, NH2), (1, 1))
"""NaNH2 as separate ions: the scheme ``split``."""
SODIUM_AMIDE_SUBUNITS = Compound("NaNH2", (NANH2,), (1,))
"""NaNH2 as one rigid subunit: the scheme ``paper``."""

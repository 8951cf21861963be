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
from pymatgen.core import Composition, Element, Molecule

from nanh2lib.errors import InputError

SYMMETRY_TOLERANCE = 0.05
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
        """Unit from atoms anywhere in space.

        The reference point becomes the first atom that all symmetry operations of the unit
        leave in place (that atom is moved to the front), else the centroid; a linear unit is
        turned along x, another one keeps the orientation it came in.

        Parameters
        ----------
        name : str
        species : sequence of str
        cart_coords : array_like, shape (n, 3)
            A.
        """
        array = np.asarray(cart_coords, dtype=np.float64).reshape(-1, 3)
        if len(species) == 1:
            return cls(name, tuple(species))
        spread = array - array.mean(0)
        if np.linalg.matrix_rank(spread, tol=1e-2) == 1:
            axis = np.linalg.svd(spread)[2][0]
            along = spread @ axis
            mirrored = sorted(zip((-along).round(2).tolist(), species, strict=True))
            symmetric = sorted(zip(along.round(2).tolist(), species, strict=True)) == mirrored
            fixed = [i for i in range(len(species)) if abs(along[i]) < 1e-2] if symmetric else [0]
            array = np.outer(along, [1.0, 0.0, 0.0])
        else:
            trial = cls(name, tuple(species), _as_tuples(spread))
            _, operations = _analyse(trial)
            moved = np.einsum("gij,nj->gni", operations, spread) - spread
            fixed = [i for i in range(len(species)) if np.abs(moved[:, i]).max() < SYMMETRY_TOLERANCE]
        if fixed:
            order = [fixed[0]] + [i for i in range(len(species)) if i != fixed[0]]
            array = array[order] - array[fixed[0]]
            species = [species[i] for i in order]
        else:
            array = array - array.mean(0)
        return cls(name, tuple(species), _as_tuples(array))


def _as_tuples(array: NDArray[np.float64]) -> tuple[tuple[float, float, float], ...]:
    return tuple((float(x), float(y), float(z)) for x, y, z in array)


@lru_cache(maxsize=256)
def unit_symmetry(unit: RigidUnit) -> tuple[str, NDArray[np.float64]]:
    """Point group of a unit, from pymatgen's ``PointGroupAnalyzer``.

    Parameters
    ----------
    unit : RigidUnit

    Returns
    -------
    symbol : str
        Schoenflies symbol; ``"K_h"`` for a single atom.
    operations : ndarray, shape (G, 3, 3)
        Orthogonal matrices about the reference point, identity first. Single atoms and linear
        units, whose groups are infinite, give the identity only.
    """
    if unit.is_monatomic:
        return "K_h", np.eye(3)[None]
    if unit.is_linear:
        along = unit.body[:, 0]
        ends = sorted(zip(along.round(2).tolist(), unit.species, strict=True))
        mirrored = sorted(zip((-along).round(2).tolist(), unit.species, strict=True))
        return ("D_inf_h" if ends == mirrored else "C_inf_v"), np.eye(3)[None]
    symbol, operations = _analyse(unit)
    operations.setflags(write=False)
    return symbol, operations


def _analyse(unit: RigidUnit) -> tuple[str, NDArray[np.float64]]:
    from pymatgen.symmetry.analyzer import PointGroupAnalyzer

    body = unit.body
    analyzer = PointGroupAnalyzer(Molecule(list(unit.species), body), tolerance=SYMMETRY_TOLERANCE)
    found: list[NDArray[np.float64]] = [np.eye(3)]
    for operation in analyzer.get_symmetry_operations():
        polished = _polish(unit, np.asarray(operation.rotation_matrix, dtype=np.float64))
        if polished is not None and all(np.abs(polished - other).max() > 1e-3 for other in found):
            found.append(polished)
    return str(analyzer.sch_symbol), np.array(found)


def _polish(unit: RigidUnit, operation: NDArray[np.float64]) -> NDArray[np.float64] | None:
    """The orthogonal matrix closest to ``operation`` that maps atom on atom exactly, if one does."""
    centred = unit.body - unit.body.mean(0)
    moved = centred @ operation.T
    distance = np.linalg.norm(moved[:, None] - centred[None], axis=-1)
    species = np.asarray(unit.species)
    distance[species[:, None] != species[None]] = np.inf
    partner = distance.argmin(1)
    if distance.min(1).max() > SYMMETRY_TOLERANCE or len(set(partner.tolist())) != len(partner):
        return None
    u, s, vh = np.linalg.svd(centred[partner].T @ centred)
    result = u @ vh
    if s[2] < 1e-6 and np.linalg.det(result) * np.linalg.det(operation) < 0:
        # A planar unit does not fix the sign along its normal: keep the operation's own.
        result = u @ np.diag([1.0, 1.0, -1.0]) @ vh
    return np.asarray(result)


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

    def formula_units(self, composition: Composition) -> int:
        """Formula units Z in a cell of that composition.

        Raises
        ------
        InputError
            The composition is not a whole multiple of the compound.
        """
        z = composition.num_atoms / self.composition.num_atoms
        whole = round(z)
        if whole < 1 or not (self.composition * whole).almost_equals(composition):
            raise InputError(
                f"composition {composition.formula!r} is not a whole number of {self.name} "
                f"({self.composition.formula}); check the structure or give another compound"
            )
        return whole


SODIUM_AMIDE = Compound("NaNH2", (NA, NH2), (1, 1))
"""NaNH2 as separate ions: the scheme ``split``."""
SODIUM_AMIDE_SUBUNITS = Compound("NaNH2", (NANH2,), (1,))
"""NaNH2 as one rigid subunit: the scheme ``paper``."""

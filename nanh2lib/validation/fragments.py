"""Are the molecules of a crystal still whole: bond lengths and angles of every unit against its rigid body."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from pymatgen.analysis.molecule_structure_comparator import CovalentRadius
from pymatgen.core import Element

from nanh2lib.crystal.connectivity import BOND_SLACK
from nanh2lib.crystal.rigid_unit import RigidUnit

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
_ROUNDING = 1e-6


@dataclass(frozen=True)
class FragmentLimits:
    """How far bonds and angles may lie from those of the rigid unit.

    Attributes
    ----------
    bond_below, bond_above : float
        A.
    angle_below, angle_above : float
        Degrees.
    """

    bond_below: float
    bond_above: float
    angle_below: float
    angle_above: float


GENERATED = FragmentLimits(0.02, 0.02, 3.0, 3.0)
"""Before relaxation; for NH2 the supplement's 1.03 +- 0.02 A and 104 +- 3 degrees."""
RELAXED = FragmentLimits(0.08, 0.09, 9.0, 8.0)
"""After relaxation and in published data; for NH2 0.95 to 1.12 A and 95 to 112 degrees."""


@dataclass(frozen=True)
class Placed:
    """Where the atoms of the units of one kind are.

    Attributes
    ----------
    unit : RigidUnit
    atoms : ndarray of int, shape (K, n)
        For each of K units its atoms in the order of the unit's body.
    """

    unit: RigidUnit
    atoms: IntArray


@dataclass(frozen=True)
class Measure:
    """A bond or angle of a unit: name, atoms of the body, value, unit of measure.

    Attributes
    ----------
    name : str
    atoms : tuple of int
        Of the unit's body: two for a bond, three for an angle.
    value : float
        A or degrees.
    symbol : str
        Unit of measure.
    """

    name: str
    atoms: tuple[int, ...]
    value: float
    symbol: str

    def window(self, limits: FragmentLimits) -> tuple[float, float]:
        """Lowest and highest value accepted."""
        if self.symbol == "A":
            return self.value - limits.bond_below, self.value + limits.bond_above
        return self.value - limits.angle_below, self.value + limits.angle_above


@dataclass(frozen=True)
class FragmentFinding:
    """What was measured on the units of one crystal.

    Attributes
    ----------
    measured : str
        Range of each kind of bond and angle; ``"single atoms"`` where there is none.
    limit : str
        Windows of the same.
    broken : tuple of str
        Units outside them, each with its number, value and window. A value that is not a number
        is outside.
    """

    measured: str
    limit: str
    broken: tuple[str, ...]


@lru_cache(maxsize=256)
def unit_measures(unit: RigidUnit) -> tuple[Measure, ...]:
    """Bonds and angles of a unit's body.

    Non-metal atoms closer than the sum of their covalent radii plus 0.3 A are bonded, as when
    units are looked for in a crystal.
    """
    bonds = [pair for pair in itertools.combinations(range(unit.n_atoms), 2) if _bonded(unit, *pair)]
    measures = []
    for i, j in bonds:
        name = "-".join(sorted((unit.species[i], unit.species[j]), key=lambda s: (s == "H", s)))
        measures.append(Measure(name, (i, j), float(_distances(unit.body[None], (i, j))[0]), "A"))
    for centre in range(unit.n_atoms):
        around = [j if i == centre else i for i, j in bonds if centre in (i, j)]
        for i, j in itertools.combinations(around, 2):
            first, second = sorted((unit.species[i], unit.species[j]))
            name = f"{first}-{unit.species[centre]}-{second}"
            measures.append(Measure(name, (i, centre, j), float(_angles(unit.body[None], (i, centre, j))[0]), "deg"))
    return tuple(measures)


def _bonded(unit: RigidUnit, i: int, j: int) -> bool:
    symbols = unit.species[i], unit.species[j]
    if any(Element(symbol).is_metal for symbol in symbols):
        return False
    reach = sum(float(CovalentRadius.radius[symbol]) for symbol in symbols) + BOND_SLACK
    return bool(np.linalg.norm(unit.body[i] - unit.body[j]) < reach)


def _distances(coords: FloatArray, atoms: tuple[int, ...]) -> FloatArray:
    return np.asarray(np.linalg.norm(coords[..., atoms[0], :] - coords[..., atoms[1], :], axis=-1))


def _angles(coords: FloatArray, atoms: tuple[int, ...]) -> FloatArray:
    first = coords[..., atoms[0], :] - coords[..., atoms[1], :]
    second = coords[..., atoms[2], :] - coords[..., atoms[1], :]
    # atan2 keeps its precision near 180 degrees (CO2), where arccos loses half the digits.
    sine = np.linalg.norm(np.cross(first, second), axis=-1)
    return np.asarray(np.degrees(np.arctan2(sine, (first * second).sum(-1))))


def measure_fragments(
    cart_coords: FloatArray, placed: Sequence[Placed], limits: FragmentLimits
) -> list[FragmentFinding]:
    """Measure the bonds and angles of the units of a batch of crystals.

    Parameters
    ----------
    cart_coords : ndarray, shape (B, N, 3)
        Units whole, A.
    placed : sequence of Placed
        The same for all crystals of the batch.
    limits : FragmentLimits

    Returns
    -------
    list of FragmentFinding, length B
    """
    count = len(cart_coords)
    ranges: list[dict[str, list[float]]] = [{} for _ in range(count)]
    windows: dict[str, list[float]] = {}
    broken: list[list[str]] = [[] for _ in range(count)]
    for kind in placed:
        coords = cart_coords[:, kind.atoms]  # (B, K, n, 3)
        for measure in unit_measures(kind.unit):
            low, high = measure.window(limits)
            found = (_distances if measure.symbol == "A" else _angles)(coords, measure.atoms)
            inside = (found >= low - _ROUNDING) & (found <= high + _ROUNDING)
            key = f"{measure.name} {{}} {measure.symbol}"
            _widen(windows, key, low, high)
            for b in range(count):
                _widen(ranges[b], key, float(found[b].min()), float(found[b].max()))
            for b, k in np.argwhere(~inside):
                window = f"{low:.2f} to {high:.2f}" if measure.symbol == "A" else f"{low:.0f} to {high:.0f}"
                text = f"{measure.name} {found[b, k]:.3f} {measure.symbol} (limits {window})"
                broken[b].append(f"{kind.unit.name} of atoms {kind.atoms[k].tolist()}: {text}")
    limit = _listing(windows)
    return [
        FragmentFinding(_listing(r) or "single atoms", limit, tuple(b)) for r, b in zip(ranges, broken, strict=True)
    ]


def _widen(table: dict[str, list[float]], key: str, low: float, high: float) -> None:
    present = table.get(key, [low, high])
    # min and max would drop a NaN that comes second: numpy's keep it.
    table[key] = [float(np.minimum(present[0], low)), float(np.maximum(present[1], high))]


def _listing(table: dict[str, list[float]]) -> str:
    parts = []
    for key, (low, high) in table.items():
        digits = 3 if key.endswith(" A") else 1
        parts.append(key.format(f"{low:.{digits}f} to {high:.{digits}f}"))
    return ", ".join(parts)

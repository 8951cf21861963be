"""Are the molecules of a crystal still whole: bond lengths and angles of every rigid unit."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pymatgen.analysis.molecule_structure_comparator import CovalentRadius

from nanh2lib.crystal.connectivity import BOND_SLACK

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class FragmentLimits:
    """Accepted bond lengths and angles.

    Attributes
    ----------
    bonds : mapping
        ``"N-H"`` to (lowest, highest) in A; elements in either order.
    angles : mapping
        ``"H-N-H"`` to (lowest, highest) in degrees.
    """

    bonds: Mapping[str, tuple[float, float]]
    angles: Mapping[str, tuple[float, float]]


GENERATED = FragmentLimits({"N-H": (1.01, 1.05)}, {"H-N-H": (101.0, 107.0)})
"""NH2 before relaxation: 1.03 +- 0.02 A and 104 +- 3 degrees (supplement)."""
RELAXED = FragmentLimits({"N-H": (0.95, 1.12)}, {"H-N-H": (95.0, 112.0)})
"""NH2 after relaxation and in published data."""


@dataclass(frozen=True)
class FragmentFinding:
    """Extreme bond lengths (A) and angles (degrees) by name, and what lies outside its limits."""

    bonds: dict[str, tuple[float, float]]
    angles: dict[str, tuple[float, float]]
    broken: tuple[str, ...]


def bond_name(first: str, second: str) -> str:
    """Name of a bond, hydrogen last: ``"N-H"``."""
    return "-".join(sorted((first, second), key=lambda s: (s == "H", s)))


def angle_name(first: str, centre: str, second: str) -> str:
    """Name of an angle: ``"H-N-H"``."""
    a, b = sorted((first, second))
    return f"{a}-{centre}-{b}"


def bonded_pairs(species: Sequence[str], cart_coords: FloatArray) -> list[tuple[int, int]]:
    """Atoms of one molecule that are bonded (closer than their covalent radii plus 0.3 A)."""
    pairs = []
    for i, j in itertools.combinations(range(len(species)), 2):
        reach = CovalentRadius.radius[species[i]] + CovalentRadius.radius[species[j]] + BOND_SLACK
        if np.linalg.norm(cart_coords[i] - cart_coords[j]) < reach:
            pairs.append((i, j))
    return pairs


def measure_fragments(
    species: Sequence[str], cart_coords: FloatArray, units: Sequence[Sequence[int]], limits: FragmentLimits
) -> FragmentFinding:
    """Measure the bonds and angles of all molecules of a crystal.

    Parameters
    ----------
    species : sequence of str, length N
    cart_coords : ndarray, shape (N, 3)
        Molecules whole, A.
    units : sequence of index sequences
        Atoms of each molecule.
    limits : FragmentLimits
        Bonds and angles that it does not name are measured but not judged.
    """
    bonds: dict[str, tuple[float, float]] = {}
    angles: dict[str, tuple[float, float]] = {}
    for unit in units:
        if len(unit) < 2:
            continue
        names = [species[i] for i in unit]
        coords = cart_coords[list(unit)]
        pairs = bonded_pairs(names, coords)
        for i, j in pairs:
            _widen(bonds, bond_name(names[i], names[j]), float(np.linalg.norm(coords[i] - coords[j])))
        neighbours: dict[int, list[int]] = {}
        for i, j in pairs:
            neighbours.setdefault(i, []).append(j)
            neighbours.setdefault(j, []).append(i)
        for centre, around in neighbours.items():
            for i, j in itertools.combinations(around, 2):
                first, second = coords[i] - coords[centre], coords[j] - coords[centre]
                cosine = first @ second / (np.linalg.norm(first) * np.linalg.norm(second))
                angle = float(np.degrees(np.arccos(np.clip(cosine, -1, 1))))
                _widen(angles, angle_name(names[i], names[centre], names[j]), angle)
    broken = [*_outside(bonds, limits.bonds, "A"), *_outside(angles, limits.angles, "degrees")]
    return FragmentFinding(bonds, angles, tuple(broken))


def _widen(table: dict[str, tuple[float, float]], name: str, value: float) -> None:
    low, high = table.get(name, (value, value))
    table[name] = (min(low, value), max(high, value))


def _outside(
    found: Mapping[str, tuple[float, float]], limits: Mapping[str, tuple[float, float]], unit: str
) -> list[str]:
    broken = []
    for name, (low, high) in limits.items():
        if name in found and not (low <= found[name][0] and found[name][1] <= high):
            measured = f"{found[name][0]:.3f} to {found[name][1]:.3f}"
            broken.append(f"{name} {measured} {unit}, limits {low:g} to {high:g}")
    return broken

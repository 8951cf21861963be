"""What can be read off an NaNH2 crystal: fragments, shortest distances, volume, space group."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from pymatgen.core import Structure

from nanh2lib.crystal.symmetry_search import symmetry_dataset
from nanh2lib.errors import InputError

PAIRS: tuple[tuple[str, str], ...] = (
    ("Na", "Na"),
    ("Na", "N"),
    ("N", "N"),
    ("Na", "H"),
    ("N", "H"),
    ("H", "H"),
)
"""Element pairs whose shortest distance is reported; N-H and H-H between different NH2 only."""

FIRST_RADIUS = 4.5  # A; widened until every pair has been met


@dataclass(frozen=True)
class Measurements:
    """Facts about one crystal.

    Attributes
    ----------
    formula : str
        Reduced formula with its elements in the order Na, N, H, e.g. ``"NaNH2"``.
    z : int
        Formula units per cell, 0 where the composition is not NaNH2.
    n_atoms : int
    n_h : tuple of float
        Shortest and longest N-H distance within NH2, A.
    h_n_h : tuple of float
        Smallest and largest H-N-H angle, degrees.
    shortest : mapping
        Shortest distance in A by pair (``"Na-N"``), between different NH2 for N-H and H-H.
    volume_per_formula_unit : float
        A^3.
    angles : tuple of float
        H-N-H angle of each N in degrees, in the order of the N atoms.
    intact : bool
        Every H belongs to exactly one N.
    """

    formula: str
    z: int
    n_atoms: int
    n_h: tuple[float, float]
    h_n_h: tuple[float, float]
    volume_per_formula_unit: float
    angles: tuple[float, ...]
    intact: bool
    shortest: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class _Neighbors:
    centers: NDArray[np.int64]  # (P,)
    others: NDArray[np.int64]  # (P,)
    images: NDArray[np.int64]  # (P, 3), cell of the other
    vectors: NDArray[np.float64]  # (P, 3), A, from center to other
    distances: NDArray[np.float64]  # (P,), A


def space_group_of(structure: Structure, symprec: float = 1e-2) -> tuple[str, int] | None:
    """Symbol with underscores and number of the space group that spglib finds, or None where it finds none.

    Parameters
    ----------
    structure : Structure
    symprec : float
        Distance tolerance, A.
    """
    dataset = symmetry_dataset(structure, symprec)
    return None if dataset is None else (str(dataset.international), int(dataset.number))


def measure(structure: Structure) -> Measurements:
    """Measure fragments, shortest distances and volume with all periodic images.

    Each N is given its two nearest H; a crystal in which an H is claimed twice or not at all is not
    ``intact``, and its ranges are those of the assignment all the same.

    Parameters
    ----------
    structure : Structure
        Ordered crystal with Na, N and H.

    Returns
    -------
    Measurements

    Raises
    ------
    InputError
        Na, N or H is missing, or a site is disordered.
    """
    if not structure.is_ordered:
        raise InputError("structure: it has partly occupied sites; give an ordered structure")
    symbols = np.array([site.specie.symbol for site in structure])
    missing = [element for element in ("Na", "N", "H") if element not in symbols]
    if missing:
        raise InputError(f"structure {structure.formula}: no {', '.join(missing)} in it; give a crystal of NaNH2")
    neighbors = _all_neighbors(structure, symbols)
    claims, bonded = _assign_hydrogens(symbols, neighbors)
    inner = neighbors.distances[bonded]
    angles = _angles(neighbors, bonded)
    counts = {element: int(np.sum(symbols == element)) for element in ("Na", "N", "H")}
    z = counts["Na"] if len(structure) == sum(counts.values()) == 4 * counts["Na"] == 4 * counts["N"] else 0
    return Measurements(
        formula=_formula(structure),
        z=z,
        n_atoms=len(structure),
        n_h=(float(inner.min()), float(inner.max())),
        h_n_h=(float(angles.min()), float(angles.max())),
        volume_per_formula_unit=structure.volume / max(counts["N"], 1),
        angles=tuple(angles.tolist()),
        intact=bool(np.all(claims[symbols == "H"] == 1)),
        shortest=_shortest(symbols, neighbors, bonded),
    )


def _formula(structure: Structure) -> str:
    counts = {element.symbol: int(amount) for element, amount in structure.composition.element_composition.items()}
    divisor = int(np.gcd.reduce(list(counts.values())))
    order = {"Na": 0, "N": 1, "H": 2}
    parts = sorted(counts, key=lambda symbol: (order.get(symbol, -1), symbol))
    return "".join(f"{symbol}{counts[symbol] // divisor if counts[symbol] > divisor else ''}" for symbol in parts)


def _all_neighbors(structure: Structure, symbols: NDArray[np.str_]) -> _Neighbors:
    """Neighbour list wide enough to hold each element pair and two H around each N."""
    radius = FIRST_RADIUS
    while True:
        i, j, images, distances = structure.get_neighbor_list(radius)
        met = {frozenset(pair) for pair in zip(symbols[i], symbols[j], strict=True)}
        h_around = np.bincount(i[(symbols[i] == "N") & (symbols[j] == "H")], minlength=len(symbols))
        if {frozenset(pair) for pair in PAIRS} <= met and h_around[symbols == "N"].min() > 2:
            break
        radius *= 1.5
    vectors = (structure.frac_coords[j] + images - structure.frac_coords[i]) @ structure.lattice.matrix
    return _Neighbors(i, j, np.asarray(images, dtype=np.int64), vectors, distances)


def _assign_hydrogens(symbols: NDArray[np.str_], neighbors: _Neighbors) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """How often each atom is claimed as an H (n_atoms,), and the rows (2 per N, adjacent) of the claims."""
    claims = np.zeros(len(symbols), dtype=np.int64)
    rows: list[int] = []
    is_n_h = (symbols[neighbors.centers] == "N") & (symbols[neighbors.others] == "H")
    for nitrogen in np.flatnonzero(symbols == "N"):
        own = np.flatnonzero(is_n_h & (neighbors.centers == nitrogen))
        nearest = own[np.argsort(neighbors.distances[own], kind="stable")[:2]]
        claims[neighbors.others[nearest]] += 1
        rows += nearest.tolist()
    return claims, np.array(rows)


def _angles(neighbors: _Neighbors, bonded: NDArray[np.int64]) -> NDArray[np.float64]:
    """H-N-H angles in degrees, one per N."""
    first, second = neighbors.vectors[bonded[0::2]], neighbors.vectors[bonded[1::2]]
    product = neighbors.distances[bonded[0::2]] * neighbors.distances[bonded[1::2]]
    cosine = np.clip(np.sum(first * second, axis=-1) / product, -1.0, 1.0)
    return np.asarray(np.degrees(np.arccos(cosine)))


def _shortest(symbols: NDArray[np.str_], neighbors: _Neighbors, bonded: NDArray[np.int64]) -> dict[str, float]:
    """Shortest distance by pair, the pairs within one NH2 left out."""
    inside: set[tuple[int, ...]] = set()
    for first, second in zip(bonded[0::2], bonded[1::2], strict=True):
        nitrogen = int(neighbors.centers[first])
        one, two = int(neighbors.others[first]), int(neighbors.others[second])
        to_one, to_two = neighbors.images[first], neighbors.images[second]
        for i, j, image in ((nitrogen, one, to_one), (nitrogen, two, to_two), (one, two, to_two - to_one)):
            inside |= {(i, j, *map(int, image)), (j, i, *map(int, -image))}
    rows = np.column_stack([neighbors.centers, neighbors.others, neighbors.images]).tolist()
    between = np.array([tuple(row) not in inside for row in rows])
    result = {}
    for first_element, second_element in PAIRS:
        pair = (symbols[neighbors.centers] == first_element) & (symbols[neighbors.others] == second_element)
        result[f"{first_element}-{second_element}"] = float(neighbors.distances[pair & between].min())
    return result

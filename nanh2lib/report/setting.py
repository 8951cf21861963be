"""Which tabulated setting a crystal is given in, and the Wyckoff labels of its orbits there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import spglib
from numpy.typing import NDArray
from pymatgen.core import Lattice, Structure

from nanh2lib.crystal.setting import find_setting
from nanh2lib.crystal.space_group import SpaceGroup
from nanh2lib.crystal.symmetry_search import symmetry_dataset
from nanh2lib.errors import ComputationError, InputError

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class Orbit:
    """Symmetry-equivalent atoms: their Wyckoff label (``"4e"``) and indices in the crystal.

    Attributes
    ----------
    element : str
    label : str
        Multiplicity and letter, ``"4e"``.
    indices : tuple of int
        Of the sites of the crystal.
    """

    element: str
    label: str
    indices: tuple[int, ...]


@dataclass(frozen=True)
class SettledCrystal:
    """A crystal described in a tabulated setting.

    Attributes
    ----------
    structure : Structure
        In that setting: the given axes with the origin moved by ``shift``, or spglib's conventional
        cell where the given axes are no tabulated setting.
    group : SpaceGroup
    orbits : tuple of Orbit
        In order of their first atom.
    shift : ndarray, shape (3,)
        Origin shift, x_settled = x_given + shift (zero where ``standardized``).
    standardized : bool
        The axes are not those given.
    """

    structure: Structure
    group: SpaceGroup
    orbits: tuple[Orbit, ...]
    shift: FloatArray
    standardized: bool


def settle(structure: Structure, symprec: float = 1e-2) -> SettledCrystal:
    """Find the space group of a crystal and the tabulated setting of its axes and origin.

    Parameters
    ----------
    structure : Structure
    symprec : float
        Distance tolerance, A.

    Returns
    -------
    SettledCrystal

    Raises
    ------
    ComputationError
        spglib finds no space group.
    """
    dataset = _dataset(structure, symprec)
    found = _match(structure, symprec)
    standardized = found is None
    if found is None:
        structure = _standardized(structure, dataset)
        dataset = _dataset(structure, symprec)
        found = _match(structure, symprec)
        if found is None:
            raise ComputationError(
                f"{structure.formula}: spglib's standard cell of {dataset.international} is in no tabulated "
                f"setting at symprec {symprec:g} A; try another symprec"
            )
    hall_number, shift = found
    group = SpaceGroup.from_hall(hall_number)
    moved = Structure(structure.lattice, structure.species, structure.frac_coords + shift)
    orbits = _orbits(moved, group, np.asarray(dataset.crystallographic_orbits))
    return SettledCrystal(moved, group, orbits, shift, standardized)


def wyckoff_label(points: FloatArray, group: SpaceGroup) -> str:
    """Wyckoff label of an orbit in the setting of ``group``.

    Parameters
    ----------
    points : ndarray, shape (m, 3)
        All its atoms, fractional.
    group : SpaceGroup

    Returns
    -------
    str
        E.g. ``"4e"``: among the sites of multiplicity m the one that the atoms fit best; ``"?"``
        with the multiplicity where the group has none of that multiplicity.
    """
    cells = np.stack(np.meshgrid(*[[-1, 0, 1]] * 3, indexing="ij"), axis=-1).reshape(-1, 1, 3)
    images = points % 1.0 + cells
    best, label = np.inf, f"{len(points)}?"
    for site in group.wyckoff_sites:
        if site.multiplicity == len(points):
            gap = np.abs(images @ site.projection.T + site.offset - images).max(axis=-1).min()
            if gap < best - 1e-6:
                best, label = float(gap), site.label
    return label


def _dataset(structure: Structure, symprec: float) -> spglib.SpglibDataset:
    dataset = symmetry_dataset(structure, symprec)
    if dataset is None:
        raise ComputationError(
            f"{structure.formula}: spglib finds no space group at symprec {symprec:g} A; "
            "look for atoms that coincide, or try another symprec"
        )
    return dataset


def _standardized(structure: Structure, dataset: spglib.SpglibDataset) -> Structure:
    by_number = {site.specie.Z: site.specie for site in structure}
    species = [by_number[int(number)] for number in dataset.std_types]
    order = np.argsort([by_number[int(n)].symbol for n in dataset.std_types], kind="stable")
    standard = Structure(Lattice(dataset.std_lattice), species, dataset.std_positions)
    return Structure.from_sites([standard[i] for i in order])


def _match(structure: Structure, symprec: float) -> tuple[int, FloatArray] | None:
    """Hall number and origin shift under which the crystal's operations are the tabulated ones."""
    try:
        setting = find_setting(structure, symprec)
    except InputError:  # the axes are no tabulated setting
        return None
    return setting.space_group.hall_number, _snapped(setting.origin_shift, structure, symprec)


def _snapped(shift: FloatArray, structure: Structure, symprec: float) -> FloatArray:
    length = float(np.linalg.norm(shift @ structure.lattice.matrix))
    return np.zeros(3) if length < symprec else shift


def _orbits(structure: Structure, group: SpaceGroup, equivalent: NDArray[np.int64]) -> tuple[Orbit, ...]:
    orbits = []
    for first in dict.fromkeys(equivalent.tolist()):
        indices = np.flatnonzero(equivalent == first)
        label = wyckoff_label(structure.frac_coords[indices], group)
        orbits.append(Orbit(structure[int(indices[0])].specie.symbol, label, tuple(indices.tolist())))
    return tuple(orbits)


def printed_labels(points: Sequence[FloatArray], group: SpaceGroup) -> list[str]:
    """Wyckoff labels of single representatives, expanded by the group.

    Parameters
    ----------
    points : sequence of ndarray, each of shape (3,)
        Fractional coordinates in the setting of ``group``.
    """
    labels = []
    for point in points:
        images = np.round(group.rotations @ point + group.translations, 9) % 1.0
        gaps = images[:, None] - images[None]
        same = np.abs(gaps - np.round(gaps)).max(axis=-1) < 1e-3
        first = np.argmax(same, axis=1) == np.arange(len(images))
        labels.append(wyckoff_label(images[first], group))
    return labels

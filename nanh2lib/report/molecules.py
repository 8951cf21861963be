"""Molecules of a crystal by connectivity: which atoms belong together, and whole across cell faces."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from ase.data import atomic_numbers, covalent_radii
from numpy.typing import NDArray
from pymatgen.core import Structure

BOND_FACTOR = 1.25
"""Two non-metal atoms closer than this times the sum of their covalent radii are bonded."""


@dataclass(frozen=True)
class Bond:
    """A covalent bond between two sites; ``image`` is the cell of the second, (3,) integers.

    Attributes
    ----------
    first, second : int
        Sites.
    image : tuple of int
        Cell of the second, in lattice vectors.
    """

    first: int
    second: int
    image: tuple[int, int, int]


def find_bonds(structure: Structure, factor: float = BOND_FACTOR) -> tuple[Bond, ...]:
    """Covalent bonds between non-metal atoms, each once; metals (Na) count as ions.

    Parameters
    ----------
    structure : Structure
    factor : float
        Bonded below ``factor`` times the sum of the covalent radii.

    Returns
    -------
    tuple of Bond
    """
    radii = np.array([covalent_radii[atomic_numbers[site.specie.symbol]] for site in structure])
    metal = np.array([site.specie.is_metal for site in structure])
    if metal.all():
        return ()
    first, second, images, distances = structure.get_neighbor_list(2 * factor * radii[~metal].max())
    close = distances < factor * (radii[first] + radii[second])
    images = np.asarray(images, dtype=np.int64)
    bonds = []
    for k in np.flatnonzero(close & ~metal[first] & ~metal[second]):
        i, j, image = int(first[k]), int(second[k]), (int(images[k][0]), int(images[k][1]), int(images[k][2]))
        if i < j or (i == j and image > (0, 0, 0)):
            bonds.append(Bond(i, j, image))
    return tuple(sorted(bonds, key=lambda bond: (bond.first, bond.second, bond.image)))


@dataclass(frozen=True)
class WholeMolecules:
    """A crystal with each molecule in one piece.

    Attributes
    ----------
    frac_coords : ndarray, shape (n, 3)
        Unwrapped: atoms of one molecule lie together, its heaviest atom in [0, 1).
    molecule : ndarray of int, shape (n,)
        Which molecule each atom belongs to.
    bonds : tuple of Bond
        ``image`` is relative to ``frac_coords`` (zero within a finite molecule).
    """

    frac_coords: NDArray[np.float64]
    molecule: NDArray[np.int64]
    bonds: tuple[Bond, ...]


def find_molecules(structure: Structure, factor: float = BOND_FACTOR) -> WholeMolecules:
    """Group atoms by bonds and unwrap each group about its heaviest atom.

    Parameters
    ----------
    structure : Structure
    factor : float
        See :func:`find_bonds`.

    Returns
    -------
    WholeMolecules
    """
    bonds = find_bonds(structure, factor)
    mass = np.array([site.specie.Z for site in structure])
    around: list[list[tuple[int, NDArray[np.int64]]]] = [[] for _ in structure]
    for bond in bonds:
        image = np.array(bond.image)
        around[bond.first].append((bond.second, image))
        around[bond.second].append((bond.first, -image))
    molecule = np.full(len(structure), -1, dtype=np.int64)
    cells = np.zeros((len(structure), 3), dtype=np.int64)
    wrapped = np.floor(np.round(structure.frac_coords, 6)).astype(np.int64)
    for count, start in enumerate(np.argsort(-mass, kind="stable").tolist()):
        if molecule[start] >= 0:
            continue
        molecule[start], cells[start] = count, -wrapped[start]
        stack = [start]
        while stack:
            here = stack.pop()
            for other, image in around[here]:
                if molecule[other] < 0:
                    molecule[other], cells[other] = count, cells[here] + image
                    stack.append(other)
    shifted = []
    for bond in bonds:
        left = cells[bond.first] + np.array(bond.image) - cells[bond.second]
        shifted.append(Bond(bond.first, bond.second, (int(left[0]), int(left[1]), int(left[2]))))
    _, molecule = np.unique(molecule, return_inverse=True)
    return WholeMolecules(structure.frac_coords + cells, molecule.astype(np.int64), tuple(shifted))


def whole_molecules(structure: Structure) -> Structure:
    """Copy of a crystal with every molecule in one piece (fractional coordinates may leave [0, 1)).

    Parameters
    ----------
    structure : Structure
        Left as it is.
    """
    whole = find_molecules(structure)
    return Structure(structure.lattice, structure.species, whole.frac_coords)

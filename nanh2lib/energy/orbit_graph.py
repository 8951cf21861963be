"""Neighbour graphs of crystals with known symmetry: one set of edges for each orbit of atoms.

Atoms that symmetry carries onto each other have the same energy and the same invariant features, so a
graph network needs to see only the edges that leave one atom of each orbit; a neighbour stands for
the atom of its orbit. With M operations that is M times less work.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from nanh2lib.crystal.primitive import AtomOrbits
from nanh2lib.errors import ComputationError

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]
_MATCH = 1e-3
"""How far (fractional) the image of an atom may lie from an atom."""


class SymmetryMismatch(ComputationError):
    """A crystal does not have the symmetry that it is said to have."""


@dataclass(frozen=True)
class OrbitGradient:
    """Energy of a crystal and a gradient that holds for changes that keep its symmetry.

    Only the edges of the representatives were differentiated, so the components are not forces and
    stress; contracted with a displacement or strain that keeps the symmetry they give the right
    derivative.

    Attributes
    ----------
    energy : float
        eV per cell.
    positions : ndarray, shape (N, 3)
        eV/A.
    strain : ndarray, shape (3, 3)
        eV; dE/d(strain) at fixed fractional coordinates.
    """

    energy: float
    positions: FloatArray
    strain: FloatArray


@dataclass(frozen=True)
class DirectedEdges:
    """Edges that leave the representatives, each with its reverse.

    Attributes
    ----------
    centres, neighbours : ndarray of int, shape (E,)
        Atoms of the whole cell.
    images : ndarray of int, shape (E, 3)
        Lattice translation of the neighbour.
    distances : ndarray, shape (E,)
        A.
    reverse : ndarray of int, shape (E,)
        The edge that symmetry makes of the same bond seen from its other end. Where a centre sits on
        a special position several edges serve; then it is one of them, and ``reverse[reverse]``
        need not be the identity.
    """

    centres: IntArray
    neighbours: IntArray
    images: IntArray
    distances: FloatArray
    reverse: IntArray


def orbit_edges(atoms: Atoms, orbits: AtomOrbits, cutoff: float) -> DirectedEdges:
    """Edges shorter than the cutoff from one atom of each orbit.

    Parameters
    ----------
    atoms : ase.Atoms
        Periodic in three directions.
    orbits : AtomOrbits
        In the fractional basis of ``atoms``.
    cutoff : float
        A.

    Raises
    ------
    SymmetryMismatch
        The atoms do not have the symmetry that the orbits say.
    """
    from matscipy.neighbours import neighbour_list

    centres, neighbours, images, distances = neighbour_list("ijSd", atoms=atoms, cutoff=cutoff)
    kept = orbits.is_representative[centres]
    edges = np.column_stack([centres[kept], neighbours[kept], images[kept]]).astype(np.int64)
    distances = np.asarray(distances[kept], dtype=np.float64)
    permutations, shifts = _inverse_operations(atoms, orbits)
    while True:
        reverse = _reverse_edges(edges, orbits, permutations, shifts)
        paired = reverse >= 0
        if paired.all():
            return DirectedEdges(edges[:, 0], edges[:, 1], edges[:, 2:], distances, reverse)
        # An edge as long as the cutoff, to the last digit, may lack its partner; its weight is zero.
        edges, distances = edges[paired], distances[paired]


def check_symmetry(atoms: Atoms, orbits: AtomOrbits) -> None:
    """Make sure that every operation carries the crystal onto itself.

    Raises
    ------
    SymmetryMismatch
        One does not.
    """
    _inverse_operations(atoms, orbits)


def proper_orbits(orbits: AtomOrbits) -> AtomOrbits:
    """Orbits under the operations without reflection: an orbit that needs improper ones falls into two.

    Parameters
    ----------
    orbits : AtomOrbits

    Returns
    -------
    AtomOrbits
        Its operations are products of the given ones.
    """
    rotations, translations = orbits.rotations[orbits.operation], orbits.translations[orbits.operation]
    improper = np.linalg.det(rotations) < 0
    _, representatives, orbit = np.unique(2 * orbits.orbit + improper, return_index=True, return_inverse=True)
    # From the new representative back to the old one, then on to the atom.
    back = np.round(np.linalg.inv(rotations[representatives][orbit]))
    turned = rotations @ back
    shifted = translations - np.einsum("nij,nj->ni", turned, translations[representatives][orbit])
    both = np.concatenate([turned.reshape(-1, 9), shifted], axis=1)
    _, first, operation = np.unique(both.round(6), axis=0, return_index=True, return_inverse=True)
    return AtomOrbits(
        representatives=representatives.astype(np.int64),
        orbit=orbit.reshape(-1).astype(np.int64),
        operation=operation.reshape(-1).astype(np.int64),
        rotations=np.round(both[first, :9]).astype(np.int64).reshape(-1, 3, 3),
        translations=both[first, 9:],
    )


def _inverse_operations(atoms: Atoms, orbits: AtomOrbits) -> tuple[IntArray, IntArray]:
    """For each operation, which atom its inverse makes of atom a, and the lattice translation beside it.

    Returns
    -------
    permutations : ndarray of int, shape (G, N)
    shifts : ndarray of int, shape (G, N, 3)
    """
    frac = atoms.cell.scaled_positions(atoms.positions)
    inverse = np.linalg.inv(orbits.rotations)
    images = np.einsum("gij,gnj->gni", inverse, frac[None] - orbits.translations[:, None])
    gaps = images[:, :, None] - frac[None, None]
    off = np.abs(gaps - np.round(gaps)).max(-1)
    off[:, atoms.numbers[:, None] != atoms.numbers[None, :]] = np.inf
    permutations = off.argmin(-1)
    if (worst := float(off.min(-1).max())) > _MATCH:
        raise SymmetryMismatch(f"the crystal lacks the symmetry of its template: an image misses by {worst:.1e}")
    shifts = np.round(images - frac[permutations]).astype(np.int64)
    return permutations.astype(np.int64), shifts


def _reverse_edges(edges: IntArray, orbits: AtomOrbits, permutations: IntArray, shifts: IntArray) -> IntArray:
    """Number of the reverse of each edge; -1 where it is not among the edges."""
    centres, neighbours, images = edges[:, 0], edges[:, 1], edges[:, 2:]
    operation = orbits.operation[neighbours]
    inverse = np.round(np.linalg.inv(orbits.rotations)).astype(np.int64)
    turned = np.einsum("eij,ej->ei", inverse[operation], images)
    wanted = np.column_stack(
        [
            permutations[operation, neighbours],
            permutations[operation, centres],
            shifts[operation, centres] - shifts[operation, neighbours] - turned,
        ]
    )
    largest = max(int(np.abs(wanted[:, 2:]).max(initial=0)), int(np.abs(images).max(initial=0))) + 1
    known, asked = _keys(edges, largest), _keys(wanted, largest)
    order = np.argsort(known)
    place = np.minimum(np.searchsorted(known[order], asked), len(known) - 1)
    found = order[place]
    return np.where(known[found] == asked, found, -1)


def _keys(edges: IntArray, largest: int) -> IntArray:
    """One integer for each edge."""
    base = 2 * largest + 1
    atoms = int(edges[:, :2].max(initial=0)) + 1
    keys = edges[:, 0] * 4096 + edges[:, 1] if atoms <= 4096 else edges[:, 0] * atoms + edges[:, 1]
    for axis in range(3):
        keys = keys * base + edges[:, 2 + axis] + largest
    return keys


@dataclass(frozen=True)
class BondNumbers:
    """Bonds without direction, for networks that keep features of bonds.

    Attributes
    ----------
    bond : ndarray of int, shape (E,)
        Number of the bond that an edge belongs to.
    first_direction : ndarray of int, shape (bonds,)
        One edge of each bond.
    lone : ndarray of int
        Edges whose bond has no other edge: what happens at its far end is read from the reverse.
    """

    bond: IntArray
    first_direction: IntArray
    lone: IntArray


def number_bonds(reverse: IntArray) -> BondNumbers:
    """Give an edge and its reverse one number, where each is the reverse of the other."""
    edges = np.arange(len(reverse))
    mutual = (reverse[reverse] == edges) & (reverse != edges)
    first = np.flatnonzero(~mutual | (edges < reverse))
    bond = np.empty(len(reverse), dtype=np.int64)
    bond[first] = np.arange(len(first))
    later = np.flatnonzero(mutual & (edges > reverse))
    bond[later] = bond[reverse[later]]
    return BondNumbers(bond, first, np.flatnonzero(~mutual))

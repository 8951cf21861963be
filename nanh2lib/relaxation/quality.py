"""What became of a structure: symmetry gained or lost, fragments broken or fused."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from itertools import combinations

import numpy as np
from numpy.typing import NDArray
from pymatgen.core import Structure

from nanh2lib.crystal.connectivity import Fragment, find_fragments
from nanh2lib.crystal.rigid_unit import RigidUnit
from nanh2lib.crystal.symmetry_search import symmetry_dataset
from nanh2lib.errors import InputError
from nanh2lib.relaxation.settings import FragmentLimits

FloatArray = NDArray[np.float64]
SYMPREC = 1e-2
"""A, for the space group before and after (supplement)."""
BOND_FACTOR = 1.35
"""Atoms of one fragment closer than this times the sum of covalent radii count as bonded."""


def symmetry_of(structure: Structure, symprec: float = SYMPREC) -> tuple[int, int]:
    """International number and number of operations of the cell as it is, centring included.

    Returns ``(1, 1)`` where spglib gives up.
    """
    dataset = symmetry_dataset(structure, symprec)
    if dataset is None:
        return 1, 1
    return int(dataset.number), len(dataset.rotations)


def symmetry_flags(
    before: tuple[int, int], after: tuple[int, int], kept: tuple[int, int] | None = None
) -> tuple[str, ...]:
    """``("symmetry_gained",)``, ``("symmetry_lost",)`` or nothing.

    Parameters
    ----------
    before, after : tuple of int
        Answers of `symmetry_of` on one cell.
    kept : tuple of int, optional
        Number and order of the group in which a crystal was relaxed; that before when absent. A start that
        happens to be nearly more symmetric than its group loses nothing when it ends in that group.
    """
    if after == before:
        return ()
    if after[1] > before[1]:
        return ("symmetry_gained",)
    within = kept is not None and (after == kept or after[1] > kept[1])
    return () if within else ("symmetry_lost",)


Shape = dict[tuple[str, ...], list[float]]


def fragment_shape(species: tuple[str, ...], cart_coords: FloatArray) -> Shape:
    """Sorted bond lengths (A) by element pair and angles (degrees) by element triple of a molecule."""
    from ase.data import atomic_numbers, covalent_radii

    radii = np.array([covalent_radii[atomic_numbers[symbol]] for symbol in species])
    distance = np.linalg.norm(cart_coords[:, None] - cart_coords[None], axis=-1)
    bonded = distance < BOND_FACTOR * (radii[:, None] + radii[None])
    shape: Shape = defaultdict(list)
    for i, j in combinations(range(len(species)), 2):
        if bonded[i, j]:
            shape[tuple(sorted((species[i], species[j])))].append(float(distance[i, j]))
    for centre in range(len(species)):
        ends = [i for i in range(len(species)) if bonded[centre, i] and i != centre]
        for i, j in combinations(ends, 2):
            first, second = sorted((species[i], species[j]))
            one, two = cart_coords[i] - cart_coords[centre], cart_coords[j] - cart_coords[centre]
            cosine = one @ two / (np.linalg.norm(one) * np.linalg.norm(two))
            shape[first, species[centre], second].append(float(np.degrees(np.arccos(np.clip(cosine, -1, 1)))))
    return {key: sorted(values) for key, values in shape.items()}


def broken_fragments(
    structure: Structure, fragments: tuple[Fragment, ...], units: tuple[RigidUnit, ...], limits: FragmentLimits
) -> list[str]:
    """Molecules that are no longer what they were.

    Parameters
    ----------
    structure : Structure
        After the relaxation, atoms in the order of before.
    fragments : tuple of Fragment
        Of the structure before.
    units : tuple of RigidUnit
        For each fragment the unit whose geometry is the reference.
    limits : FragmentLimits

    Returns
    -------
    list of str
        One line for each broken fragment: atoms, what was found and what is allowed.
    """
    try:
        after = {fragment.indices: fragment for fragment in find_fragments(structure)}
    except InputError as error:
        return [str(error)]
    reasons = []
    for fragment, unit in zip(fragments, units, strict=True):
        found = after.get(fragment.indices)
        if found is None:
            reasons.append(f"atoms {list(fragment.indices)} ({fragment.formula}) are not one fragment any more")
            continue
        if len(found.indices) > 1:
            cart = found.frac_coords @ structure.lattice.matrix
            reasons += _misfits(fragment_shape(found.species, cart), unit, found, limits)
    return reasons


def fused_units(structure: Structure, unit_index: Sequence[int]) -> list[str]:
    """Molecules that have bonds to another unit: rigid units keep their shape but may run into each other.

    Parameters
    ----------
    structure : Structure
        After a relaxation of rigid units.
    unit_index : sequence of int, length N
        Which unit each atom belongs to. Units of one atom may be bonded to each other: there is no molecule
        to lose.

    Returns
    -------
    list of str
        One line for each group of bonded units.
    """
    try:
        fragments = find_fragments(structure)
    except InputError as error:
        return [str(error)]
    size = Counter(unit_index)
    reasons = []
    for fragment in fragments:
        joined = {unit_index[i] for i in fragment.indices}
        if len(joined) > 1 and any(size[unit] > 1 for unit in joined):
            reasons.append(f"atoms {list(fragment.indices)} of {len(joined)} units form {fragment.formula}")
    return reasons


def _misfits(shape: Shape, unit: RigidUnit, fragment: Fragment, limits: FragmentLimits) -> list[str]:
    reference = fragment_shape(unit.species, unit.body)
    if {key: len(values) for key, values in shape.items()} != {key: len(values) for key, values in reference.items()}:
        return [f"atoms {list(fragment.indices)} ({fragment.formula}) have other bonds than {unit.name}"]
    reasons = []
    for key, values in shape.items():
        below, above = (
            (limits.bond_shorter, limits.bond_longer) if len(key) == 2 else (limits.angle_smaller, limits.angle_larger)
        )
        for value, wanted in zip(values, reference[key], strict=True):
            if not wanted - below - 1e-9 <= value <= wanted + above + 1e-9:
                reasons.append(
                    f"{'-'.join(key)} of atoms {list(fragment.indices)} is {value:.3f}, "
                    f"allowed {wanted - below:.3f} to {wanted + above:.3f}"
                )
    return reasons

"""Rigid units found in a crystal by connectivity, whole across cell boundaries."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pymatgen.analysis.molecule_structure_comparator import CovalentRadius
from pymatgen.core import Composition, Element, Structure

from nanh2lib.crystal.rigid_unit import NA, NH2, SODIUM_AMIDE, Compound, RigidUnit
from nanh2lib.crystal.unit_fit import UnitFit, fit_unit
from nanh2lib.errors import InputError

BOND_SLACK = 0.3
"""Two non-metal atoms are bonded when closer than the sum of covalent radii plus this, A."""
RIGIDITY_TOLERANCE = 0.15
"""Fragments whose fitted atoms deviate more than this (root mean square, A) are another kind of unit."""

KNOWN_UNITS: tuple[RigidUnit, ...] = (NA, NH2)
"""Units with a standard geometry, used by default where they fit."""


@dataclass(frozen=True)
class Fragment:
    """Bonded atoms, whole.

    Attributes
    ----------
    indices : tuple of int, length n
        Sites in the crystal.
    species : tuple of str, length n
    frac_coords : ndarray, shape (n, 3)
        The image of each atom that is bonded to the others.
    """

    indices: tuple[int, ...]
    species: tuple[str, ...]
    frac_coords: NDArray[np.float64]

    @property
    def formula(self) -> str:
        """Chemical formula: carbon first, then by electronegativity with hydrogen last (with carbon, second)."""
        counts = Counter(self.species)
        names = sorted(counts, key=lambda s: (Element(s).X, s))
        if "H" in counts:
            names.remove("H")
            names.insert(1 if "C" in counts else len(names), "H")
        if "C" in counts:
            names.remove("C")
            names.insert(0, "C")
        return "".join(name + (str(counts[name]) if counts[name] > 1 else "") for name in names)


def find_fragments(structure: Structure) -> list[Fragment]:
    """Bonded fragments of a crystal; atoms of metals stand alone.

    Parameters
    ----------
    structure : Structure

    Returns
    -------
    list of Fragment
        Ordered by their lowest site index.

    Raises
    ------
    InputError
        A fragment is bonded to its own periodic image (a chain, layer or framework).
    """
    species = [_symbol(site.species, i) for i, site in enumerate(structure)]
    radii = [0.0 if Element(s).is_metal else float(CovalentRadius.radius[s]) for s in species]
    neighbours: list[list[tuple[int, NDArray[np.int64]]]] = [[] for _ in species]
    if any(radii):
        centers, points, images, distances = structure.get_neighbor_list(2 * max(radii) + BOND_SLACK)
        for i, j, image, distance in zip(centers, points, images, distances, strict=True):
            if radii[i] and radii[j] and distance < radii[i] + radii[j] + BOND_SLACK:
                neighbours[i].append((int(j), np.asarray(image, dtype=np.int64)))
    frac = structure.frac_coords
    fragments, seen = [], set()
    for start in range(len(species)):
        if start in seen:
            continue
        shifts = {start: np.zeros(3, dtype=np.int64)}
        queue = deque([start])
        while queue:
            i = queue.popleft()
            for j, image in neighbours[i]:
                shift = shifts[i] + image
                if j not in shifts:
                    shifts[j] = shift
                    queue.append(j)
                elif not np.array_equal(shifts[j], shift):
                    raise InputError(
                        f"atom {j} ({species[j]}) is bonded to its own periodic image: the crystal holds an endless "
                        "chain, layer or framework, which is not a rigid unit; check the structure for short contacts"
                    )
        seen |= set(shifts)
        order = sorted(shifts)
        coords = np.array([frac[i] + shifts[i] for i in order])
        fragments.append(Fragment(tuple(order), tuple(species[i] for i in order), coords))
    return fragments


def _symbol(species: Composition, index: int) -> str:
    if not species.is_element or abs(species.num_atoms - 1) > 1e-6:
        raise InputError(f"site {index} ({species}): mixed or partial occupancy; give an ordered structure")
    symbol = species.elements[0].symbol
    return "H" if symbol in ("D", "T") else str(symbol)


def infer_units(
    fragments: Sequence[Fragment], lattice: NDArray[np.float64], known: Sequence[RigidUnit] = KNOWN_UNITS
) -> tuple[RigidUnit, ...]:
    """Kinds of rigid units among fragments.

    Known units are used where they fit; any other kind takes the geometry of its first fragment.
    Single metal atoms come first, then other single atoms, then molecules by size and formula.

    Parameters
    ----------
    fragments : sequence of Fragment
    lattice : ndarray, shape (3, 3)
        Rows, A.
    known : sequence of RigidUnit
    """
    kinds: list[RigidUnit] = []
    for fragment in fragments:
        cart = fragment.frac_coords @ lattice
        same = [kind for kind in kinds if sorted(kind.species) == sorted(fragment.species)]
        if any(fit_unit(kind, fragment.species, cart).rms < RIGIDITY_TOLERANCE for kind in same):
            continue
        candidates = [unit for unit in known if sorted(unit.species) == sorted(fragment.species)]
        fitting = [u for u in candidates if fit_unit(u, fragment.species, cart).rms < RIGIDITY_TOLERANCE]
        name = fragment.formula + "'" * len(same)
        kinds.append(fitting[0] if fitting else RigidUnit.from_atoms(name, fragment.species, cart))
    return tuple(sorted(kinds, key=_kind_order))


def _kind_order(unit: RigidUnit) -> tuple[int, float, str]:
    element = Element(unit.species[0])
    return (unit.n_atoms, 0.0 if element.is_metal else 1.0, unit.name)


def expected_compound(structure: Structure, declared: Compound | None = None) -> Compound | None:
    """The compound that a crystal must be: the one declared, else sodium amide where the composition is NaNH2."""
    if declared is not None:
        return declared
    try:
        SODIUM_AMIDE.formula_units(structure.composition)
    except InputError:
        return None
    return SODIUM_AMIDE


def check_counts(fragments: Sequence[Fragment], compound: Compound) -> None:
    """Refuse fragments that are not a whole number of formula units of a compound.

    Raises
    ------
    InputError
        A fragment is none of the compound's units (a broken or foreign unit), or the numbers
        are not those of a whole number of formula units.
    """
    wanted: Counter[tuple[str, ...]] = Counter()
    for unit, count in zip(compound.units, compound.counts, strict=True):
        wanted[tuple(sorted(unit.species))] += count
    found = Counter(fragment.formula for fragment in fragments)
    listing = ", ".join(f"{count} {formula}" for formula, count in sorted(found.items()))
    expected = ", ".join(f"{unit.name} ({'-'.join(unit.species)})" for unit in compound.units)
    numbers: Counter[tuple[str, ...]] = Counter()
    for fragment in fragments:
        key = tuple(sorted(fragment.species))
        if key not in wanted:
            raise InputError(
                f"atoms {list(fragment.indices)} form {fragment.formula!r}, which is not a unit of {compound.name}: "
                f"found {listing}; expected {expected}. Units may be broken, or another compound was declared"
            )
        numbers[key] += 1
    ratios = {numbers[key] / count for key, count in wanted.items()}
    if len(ratios) != 1:
        raise InputError(f"found {listing}: not a whole number of {compound.name} ({expected})")


def unit_for(fragment: Fragment, kinds: Sequence[RigidUnit], lattice: NDArray[np.float64]) -> tuple[int, UnitFit]:
    """Index and fit of the unit that lies over a fragment best.

    Raises
    ------
    InputError
        No unit has its atoms, or the best one deviates by more than `RIGIDITY_TOLERANCE`.
    """
    cart = fragment.frac_coords @ lattice
    species = sorted(fragment.species)
    fits = [(i, fit_unit(u, fragment.species, cart)) for i, u in enumerate(kinds) if sorted(u.species) == species]
    if not fits:
        names = ", ".join(unit.name for unit in kinds)
        raise InputError(f"atoms {list(fragment.indices)} form {fragment.formula!r}, which is none of {names}")
    index, fit = min(fits, key=lambda item: item[1].rms)
    if fit.rms > RIGIDITY_TOLERANCE:
        raise InputError(
            f"atoms {list(fragment.indices)} ({fragment.formula}) deviate by {fit.rms:.3f} A (root mean square) from "
            f"the rigid unit {kinds[index].name}; the limit is {RIGIDITY_TOLERANCE} A: check the geometry, or give "
            "units with another one (infer_compound with known=())"
        )
    return index, fit

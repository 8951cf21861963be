"""From a full crystal to its asymmetric unit of rigid units, with one canonical answer.

The rules: units are found by connectivity; orbits of units under the space group get a Wyckoff
letter; the first unit kind is the anchor, its orbits in order; the other kinds are paired with
the anchors by minimal-distance one-to-one assignment, each by its image nearest to its anchor.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pymatgen.core import Structure
from scipy.optimize import linear_sum_assignment

from nanh2lib.crystal.asymmetric_unit import AsymmetricUnit, Site, Template
from nanh2lib.crystal.connectivity import Fragment, assign_units, find_fragments, infer_units
from nanh2lib.crystal.expansion import project
from nanh2lib.crystal.orientation import orientation_modes, project_orientation
from nanh2lib.crystal.rigid_unit import Compound, RigidUnit
from nanh2lib.crystal.setting import Setting, checked_structure, find_setting, standardized
from nanh2lib.crystal.space_group import SpaceGroup, WyckoffSite
from nanh2lib.crystal.unit_fit import UnitFit, canonical_rotation, equivalent_rotations, fit_unit
from nanh2lib.errors import ComputationError, InputError
from nanh2lib.geometry.lattice import lattice_parameters_to_matrix

FloatArray = NDArray[np.float64]
Anchor = Literal["canonical", "site_index"]
TIE = 1e-4
"""Fractional coordinates (and distances, A) closer than this count as equal when sites are sorted."""


@dataclass(frozen=True)
class _Unit:
    """A placed unit: kind, fractional origin, fit, lowest site index."""

    kind: int
    frac: FloatArray
    fit: UnitFit
    first_index: int


@dataclass(frozen=True)
class _Choice:
    """A representative of an orbit: which unit, at which fractional origin, on which site."""

    unit: _Unit
    frac: FloatArray
    site: WyckoffSite


def extract_asymmetric_unit(
    structure: Structure,
    symprec: float = 1e-2,
    anchor: Anchor = "canonical",
    compound: Compound | None = None,
    *,
    standardize: bool = False,
    canonical_origin: bool = False,
) -> AsymmetricUnit:
    """Asymmetric unit of a crystal.

    Parameters
    ----------
    structure : Structure
        Full cell; any orientation.
    symprec : float
        Tolerance of the symmetry search, A.
    anchor : {"canonical", "site_index"}
        How representatives are chosen. ``"canonical"`` does not depend on the order of atoms,
        lattice shifts or the choice of symmetry images. ``"site_index"`` is the supplement's
        rule: of each orbit of the first unit kind the member with the lowest site index.
    compound : Compound, optional
        The rigid units to expect; inferred from connectivity when absent.
    standardize : bool
        Go to spglib's standard setting first; otherwise the input's own setting is kept.
    canonical_origin : bool
        Also choose among the origins that leave the symmetry operations unchanged (translation
        part of the Euclidean normalizer; continuous in polar groups), so that crystals that
        differ by such a shift give the same answer.

    Returns
    -------
    AsymmetricUnit
        Batch of one, float64, exactly on its sites.

    Raises
    ------
    InputError
        Not a crystal, a setting that is not tabulated, units that do not fit the compound.
    ComputationError
        The symmetry found does not relate the units to each other.
    """
    if anchor not in ("canonical", "site_index"):
        raise InputError(f"anchor {anchor!r} does not exist; choose 'canonical' or 'site_index'")
    crystal = checked_structure(structure)
    if standardize:
        crystal = standardized(crystal, symprec)
    setting = find_setting(crystal, symprec)
    parameters = torch.tensor([crystal.lattice.parameters], dtype=torch.float64)
    lattice = lattice_parameters_to_matrix(parameters)[0].numpy()
    fragments = find_fragments(crystal)
    kinds = compound.units if compound is not None else infer_units(fragments, lattice)
    units = _place_units(fragments, kinds, compound, lattice, setting)
    group = setting.space_group
    orbits = _orbits(units, group, lattice, max(0.05, 5 * symprec))
    tolerance = max(0.1, 10 * symprec)
    if canonical_origin:
        shifts = _origin_candidates(units, orbits, group)
    else:
        shifts = [np.zeros(3)]
    described = [_describe(orbits, shift, group, lattice, anchor, tolerance) for shift in shifts]
    best = _smallest(described)
    return _assemble(best, kinds, group, parameters, lattice)


def _place_units(
    fragments: Sequence[Fragment],
    kinds: Sequence[RigidUnit],
    compound: Compound | None,
    lattice: FloatArray,
    setting: Setting,
) -> list[_Unit]:
    assigned = assign_units(fragments, compound) if compound is not None else None
    units = []
    for number, fragment in enumerate(fragments):
        cart = (fragment.frac_coords + setting.origin_shift) @ lattice
        fits = []
        for index, kind in enumerate(kinds):
            if (assigned is None and sorted(kind.species) == sorted(fragment.species)) or (
                assigned is not None and assigned[number] == index
            ):
                fits.append((fit_unit(kind, fragment.species, cart), index))
        fit, index = min(fits, key=lambda item: item[0].rms)
        frac = fit.origin @ np.linalg.inv(lattice)
        units.append(_Unit(index, frac, fit, min(fragment.indices)))
    return units


def _orbits(units: Sequence[_Unit], group: SpaceGroup, lattice: FloatArray, tolerance: float) -> list[list[_Unit]]:
    """Sets of units related by the operations of the group, in order of their first member."""
    positions = np.array([unit.frac for unit in units])
    kinds = np.array([unit.kind for unit in units])
    left = set(range(len(units)))
    orbits = []
    for start in range(len(units)):
        if start not in left:
            continue
        images = group.rotations @ positions[start] + group.translations
        difference = images[:, None] - positions[None]
        difference -= np.round(difference)
        distance = np.linalg.norm(difference @ lattice, axis=-1)
        distance[:, kinds != kinds[start]] = np.inf
        partner = distance.argmin(1)
        if distance[np.arange(len(images)), partner].max() > tolerance:
            worst = float(distance.min(1).max())
            raise ComputationError(
                f"an image of unit {start} under {group.symbol} has no partner within {tolerance} A (nearest {worst:.3f} A); "
                "use a smaller symprec"
            )
        members = sorted({int(p) for p in partner})
        left -= set(members)
        orbits.append([units[m] for m in members])
    return orbits


def _origin_candidates(units: Sequence[_Unit], orbits: Sequence[list[_Unit]], group: SpaceGroup) -> list[FloatArray]:
    """Origin shifts to compare: discrete ones, each slid so that some anchor sits at zero along free axes."""
    free = group.free_origin_shifts()
    directions = free.directions
    if len(directions) == 0:
        return list(free.shifts)
    anchors = [unit for orbit in orbits for unit in orbit if unit.kind == 0]
    pseudo_inverse = np.linalg.pinv(directions.T)
    candidates = []
    for shift, unit in itertools.product(free.shifts, anchors):
        position = unit.frac + shift
        candidates.append(shift - directions.T @ (pseudo_inverse @ position))
    return candidates


def _on_site(
    orbit: Sequence[_Unit], shift: FloatArray, group: SpaceGroup, lattice: FloatArray, tolerance: float
) -> list[_Choice]:
    """Members (with lattice shifts) that lie on the representative of the orbit's Wyckoff site."""
    cells = np.array(list(itertools.product((-1, 0, 1), repeat=3)), dtype=np.float64)
    choices: list[tuple[float, _Choice]] = []
    for site in group.wyckoff_sites:
        if site.multiplicity != len(orbit):
            continue
        for unit in orbit:
            wrapped = unit.frac + shift
            wrapped = wrapped - np.floor(wrapped + TIE)
            for frac in wrapped + cells:
                moved = site.projection @ frac + site.offset
                gap = float(np.linalg.norm((moved - frac) @ lattice))
                if gap < tolerance:
                    choices.append((gap, _Choice(unit, moved, site)))
    if not choices:
        raise ComputationError(
            f"an orbit of {len(orbit)} units lies on no Wyckoff site of {group.symbol} (Hall {group.hall_number}); "
            "use a smaller symprec"
        )
    best = min(choices, key=lambda item: item[0])[1].site.letter
    return [choice for _, choice in choices if choice.site.letter == best]


def _sort_key(choices: Sequence[_Choice]) -> _Choice:
    """The choice with the smallest coordinates, compared with tolerance, x before y before z."""
    keep = list(choices)
    for axis in range(3):
        low = min(choice.frac[axis] for choice in keep)
        keep = [choice for choice in keep if choice.frac[axis] <= low + TIE]
    return keep[0]


def _in_cell(choices: Sequence[_Choice]) -> list[_Choice]:
    """Choices with coordinates in [0, 1), tolerance-aware; all of them when the site has none there."""
    inside = [c for c in choices if (c.frac > -TIE).all() and (c.frac < 1 - TIE).all()]
    return inside or list(choices)


def _ordered(pairs: list[tuple[_Choice, list[_Choice]]], by_index: bool) -> list[tuple[_Choice, list[_Choice]]]:
    """Orbits in order: by lowest site index, or by Wyckoff letter and then coordinates."""
    if by_index:
        return sorted(pairs, key=lambda pair: min(choice.unit.first_index for choice in pair[1]))
    result = []
    left = list(pairs)
    while left:
        letter = min(pair[0].site.letter for pair in left)
        first = _sort_key([pair[0] for pair in left if pair[0].site.letter == letter])
        position = next(i for i, pair in enumerate(left) if pair[0] is first)
        result.append(left.pop(position))
    return result


def _describe(
    orbits: Sequence[list[_Unit]],
    shift: FloatArray,
    group: SpaceGroup,
    lattice: FloatArray,
    anchor: Anchor,
    tolerance: float,
) -> list[_Choice]:
    """One representative of each orbit, in canonical order."""
    by_kind: dict[int, list[tuple[_Choice, list[_Choice]]]] = {}
    for orbit in orbits:
        choices = _on_site(orbit, shift, group, lattice, tolerance)
        inside = _in_cell(choices)
        if anchor == "site_index":
            low = min(choice.unit.first_index for choice in inside)
            inside = [choice for choice in inside if choice.unit.first_index == low]
        by_kind.setdefault(orbit[0].kind, []).append((_sort_key(inside), choices))
    kinds = sorted(by_kind)
    anchors = [pair[0] for pair in _ordered(by_kind[kinds[0]], anchor == "site_index")]
    result = list(anchors)
    for kind in kinds[1:]:
        result += _paired(anchors, _ordered(by_kind[kind], anchor == "site_index"), lattice)
    return result


def _paired(
    anchors: Sequence[_Choice], orbits: Sequence[tuple[_Choice, list[_Choice]]], lattice: FloatArray
) -> list[_Choice]:
    """Each orbit's image nearest to the anchor it is assigned to; orbits in the order of their anchors."""
    distances = np.empty((len(anchors), len(orbits)))
    nearest: dict[tuple[int, int], _Choice] = {}
    for (i, first), (j, (_, choices)) in itertools.product(enumerate(anchors), enumerate(orbits)):
        images = []
        for choice in choices:
            moved, gap = _nearest_image(choice, first.frac, lattice)
            images.append((gap, moved))
        low = min(gap for gap, _ in images)
        distances[i, j] = low
        nearest[i, j] = _sort_key([moved for gap, moved in images if gap < low + 10 * TIE])
    rows, columns = linear_sum_assignment(np.round(distances, 4))
    assigned = {int(j): int(i) for i, j in zip(rows, columns, strict=True)}
    chosen = [nearest[i, j] for j, i in sorted(assigned.items(), key=lambda item: item[1])]
    return chosen + [orbits[j][0] for j in range(len(orbits)) if j not in assigned]


def _nearest_image(choice: _Choice, target: FloatArray, lattice: FloatArray) -> tuple[_Choice, float]:
    """Copy of a choice moved by the lattice translation, allowed by its site, that brings it nearest."""
    best, best_gap = choice, float(np.linalg.norm((choice.frac - target) @ lattice))
    base = choice.frac - np.round(choice.frac - target)
    for cell in itertools.product((-1, 0, 1), repeat=3):
        frac = base + np.array(cell)
        if np.abs(choice.site.projection @ frac + choice.site.offset - frac).max() > 1e-6:
            continue
        gap = float(np.linalg.norm((frac - target) @ lattice))
        if gap < best_gap - 1e-9:
            best, best_gap = _Choice(choice.unit, frac, choice.site), gap
    return best, best_gap


def _smallest(described: Sequence[list[_Choice]]) -> list[_Choice]:
    """The description with the smallest letters, then coordinates, compared with tolerance."""
    letters = min(tuple(choice.site.letter for choice in choices) for choices in described)
    keep = [c for c in described if tuple(choice.site.letter for choice in c) == letters]
    for unit, axis in itertools.product(range(len(letters)), range(3)):
        low = min(choices[unit].frac[axis] for choices in keep)
        keep = [choices for choices in keep if choices[unit].frac[axis] <= low + TIE]
    return keep[0]


def _best_mode(
    unit: RigidUnit, rotation: FloatArray, site: WyckoffSite, group: SpaceGroup, lattice: FloatArray
) -> tuple[int, FloatArray]:
    """Orientation mode, and the equivalent orientation that is closest to it."""
    if unit.is_monatomic or len(site.stabilizer_rotations) == 1:
        return 0, rotation
    cart = lattice.T @ site.stabilizer_rotations @ np.linalg.inv(lattice).T
    stabilizer = torch.as_tensor(cart)[None]
    found: list[tuple[float, int, FloatArray]] = []
    for mode, operations in enumerate(orientation_modes(unit, group.hall_number, site.letter)):
        for equivalent in equivalent_rotations(unit, rotation):
            start = torch.as_tensor(equivalent)[None]
            body = torch.as_tensor(operations.copy())
            moved = project_orientation(start, stabilizer, body, unit.is_linear)[0].numpy()
            gap = float(np.abs((moved - equivalent) @ unit.body.T).max())
            found.append((gap, mode, moved))
    if not found:
        raise ComputationError(
            f"unit {unit.name} lies on site {site.label} of {group.symbol}, whose symmetry {site.site_symmetry} "
            f"it does not have ({unit.point_group[0]}); use a smaller symprec"
        )
    low = min(item[0] for item in found)
    mode = min(item[1] for item in found if item[0] < low + 1e-3)
    equivalents = [item[2] for item in found if item[0] < low + 1e-3 and item[1] == mode]
    canonical = canonical_rotation(unit, equivalents[0])
    gaps = [float(np.abs(matrix - canonical).max()) for matrix in equivalents]
    return mode, equivalents[int(np.argmin(gaps))]


def _assemble(
    choices: Sequence[_Choice],
    kinds: Sequence[RigidUnit],
    group: SpaceGroup,
    parameters: torch.Tensor,
    lattice: FloatArray,
) -> AsymmetricUnit:
    sites, rotations = [], []
    for choice in choices:
        unit = kinds[choice.unit.kind]
        mode, rotation = _best_mode(unit, choice.unit.fit.rotation, choice.site, group, lattice)
        sites.append(Site(unit, choice.site.letter, mode, choice.unit.fit.handedness))
        rotations.append(rotation)
    result = AsymmetricUnit(
        Template(group.hall_number, tuple(sites)),
        parameters,
        torch.as_tensor(np.array([[choice.frac for choice in choices]])),
        torch.as_tensor(np.array([rotations])),
    )
    return project(result)

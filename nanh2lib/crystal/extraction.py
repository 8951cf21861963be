"""From a full crystal to its asymmetric unit of rigid units, with one canonical answer.

The steps: the setting that the crystal is written in (`setting`), bonded fragments
(`connectivity`), their orbits under the space group, averaged (`orbits`), one rigid unit laid
over each orbit (`unit_fit`), and one representative of each in canonical order (`canonical`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from math import gcd
from typing import Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from pymatgen.core import Element, Structure

from nanh2lib.crystal.asymmetric_unit import AsymmetricUnit, Site, Template
from nanh2lib.crystal.canonical import OrbitPoints, Representative, equal_descriptions
from nanh2lib.crystal.connectivity import KNOWN_UNITS, Fragment, check_counts, find_fragments, infer_units, unit_for
from nanh2lib.crystal.expansion import project
from nanh2lib.crystal.orbits import FragmentOrbit, fragment_orbits
from nanh2lib.crystal.orientation import orientation_modes, project_orientation
from nanh2lib.crystal.rigid_unit import Compound, RigidUnit, unit_symmetry
from nanh2lib.crystal.setting import checked_structure, find_setting, standardized
from nanh2lib.crystal.space_group import SpaceGroup, WyckoffSite
from nanh2lib.crystal.unit_fit import UnitFit, canonical_rotation, equivalent_rotations
from nanh2lib.errors import ComputationError, InputError
from nanh2lib.geometry.lattice import lattice_parameters_to_matrix
from nanh2lib.geometry.ordering import smallest_row

FloatArray = NDArray[np.float64]
Anchor = Literal["canonical", "site_index"]
MODE_TIE = 1e-3
"""Orientations (A, largest atomic displacement) closer than this to two modes go to the first."""
ROTATION_TIE = 1e-4
"""Entries of rotation matrices closer than this count as equal."""
MODE_LIMIT = 0.3
"""Largest displacement (A) that puts a unit onto an orientation its site allows."""


@dataclass(frozen=True)
class _Description:
    """A crystal in its tabulated setting, with its fragments gathered into orbits."""

    group: SpaceGroup
    parameters: torch.Tensor  # (1, 6)
    lattice: FloatArray  # rows, A
    fragments: list[Fragment]
    orbits: list[FragmentOrbit]


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
        rule: of each orbit the member with the lowest site index, orbits in that order.
    compound : Compound, optional
        The rigid units to expect; inferred from connectivity when absent (Na and NH2 in their
        standard geometry, others in the crystal's own).
    standardize : bool
        Go to spglib's standard setting first; otherwise the input's own setting is kept.
    canonical_origin : bool
        Also choose among the origins that leave the symmetry operations unchanged (translation
        part of the Euclidean normalizer; continuous in polar groups), so that crystals that
        differ by a shift of the origin give the same answer.

    Returns
    -------
    AsymmetricUnit
        Batch of one, float64, exactly on its sites. Where the crystal obeys its space group
        only within ``symprec``, atoms are averaged over symmetry images.

    Raises
    ------
    InputError
        Not a crystal, a setting that is not tabulated, units that do not fit the compound.
    ComputationError
        The symmetry found does not relate the units to each other.
    """
    if anchor not in get_args(Anchor):
        raise InputError(f"anchor {anchor!r} does not exist; choose 'canonical' or 'site_index'")
    crystal = _describe(structure, symprec, standardize, canonical_origin)
    if compound is None:
        kinds = infer_units([orbit.fragment for orbit in crystal.orbits], crystal.lattice)
    else:
        kinds = compound.units
        check_counts(crystal.fragments, compound)
    fits = [unit_for(orbit.fragment, kinds, crystal.lattice) for orbit in crystal.orbits]
    to_frac = np.linalg.inv(crystal.lattice)
    points = [
        OrbitPoints(kind, orbit.images(fit.origin @ to_frac), orbit.first_indices)
        for orbit, (kind, fit) in zip(crystal.orbits, fits, strict=True)
    ]
    equal = equal_descriptions(
        points,
        crystal.group,
        crystal.lattice,
        by_site_index=anchor == "site_index",
        any_origin=canonical_origin,
    )
    # Members related by a translation are oriented alike: one description of those is enough.
    different: dict[tuple[tuple[int, bytes], ...], list[Representative]] = {}
    for chosen in equal:
        different.setdefault(tuple(_member(crystal, item) for item in chosen), chosen)
    return _first_oriented([_assemble(crystal, kinds, fits, chosen) for chosen in different.values()])


def infer_compound(
    structure: Structure,
    symprec: float = 1e-2,
    *,
    known: Sequence[RigidUnit] = KNOWN_UNITS,
    name: str | None = None,
) -> Compound:
    """Rigid units of a crystal and how many of each make one formula unit.

    Parameters
    ----------
    structure : Structure
    symprec : float
        A.
    known : sequence of RigidUnit
        Units whose geometry is taken where they fit; ``()`` keeps the crystal's own geometry,
        averaged over symmetry images.
    name : str, optional
        Made of the units' names by default, e.g. ``"LiNH2"``.

    Raises
    ------
    InputError, ComputationError
        As `extract_asymmetric_unit`.
    """
    crystal = _describe(structure, symprec, standardize=False, any_origin=False)
    kinds = infer_units([orbit.fragment for orbit in crystal.orbits], crystal.lattice, known)
    counts = [0] * len(kinds)
    for orbit in crystal.orbits:
        counts[unit_for(orbit.fragment, kinds, crystal.lattice)[0]] += len(orbit.first_indices)
    divisor = reduce(gcd, counts)
    counts = [count // divisor for count in counts]
    return Compound(name or _compound_name(kinds, counts), kinds, tuple(counts))


def _compound_name(kinds: Sequence[RigidUnit], counts: Sequence[int]) -> str:
    """Names of metals, then molecules, then other single atoms."""

    def rank(item: tuple[RigidUnit, int]) -> int:
        unit = item[0]
        if not unit.is_monatomic:
            return 1
        return 0 if Element(unit.species[0]).is_metal else 2

    ordered = sorted(zip(kinds, counts, strict=True), key=rank)
    return "".join(unit.name if count == 1 else f"({unit.name}){count}" for unit, count in ordered)


def _describe(structure: Structure, symprec: float, standardize: bool, any_origin: bool) -> _Description:
    crystal = checked_structure(structure)
    if standardize:
        crystal = standardized(crystal, symprec)
    found = find_fragments(crystal)
    setting = find_setting(crystal, symprec, any_origin=any_origin)
    group = setting.space_group
    parameters = group.symmetrize_lattice(torch.tensor([crystal.lattice.parameters], dtype=torch.float64))
    lattice = lattice_parameters_to_matrix(parameters)[0].numpy()
    fragments = [Fragment(item.indices, item.species, item.frac_coords + setting.origin_shift) for item in found]
    orbits = fragment_orbits(fragments, group, lattice, max(0.05, 5 * symprec))
    return _Description(group, parameters, lattice, fragments, orbits)


def _assemble(
    crystal: _Description,
    kinds: Sequence[RigidUnit],
    fits: Sequence[tuple[int, UnitFit]],
    chosen: Sequence[Representative],
) -> AsymmetricUnit:
    sites, rotations = [], []
    for item in chosen:
        kind, fit = fits[item.orbit]
        unit = kinds[kind]
        operation = crystal.orbits[item.orbit].rotations[item.member]
        rotation, handedness = _image(unit, fit, operation, crystal.lattice)
        mode, rotation = _best_mode(unit, rotation, item.site, crystal)
        sites.append(Site(unit, item.site.letter, mode, handedness))
        rotations.append(rotation)
    result = AsymmetricUnit(
        Template(crystal.group.hall_number, tuple(sites)),
        crystal.parameters,
        torch.as_tensor(np.array([[item.point for item in chosen]])),
        torch.as_tensor(np.array([rotations])),
    )
    return project(result)


def _member(crystal: _Description, item: Representative) -> tuple[int, bytes]:
    """Orbit, and linear part of the operation that makes the representative from its first member."""
    return item.orbit, crystal.orbits[item.orbit].rotations[item.member].tobytes()


def _first_oriented(found: Sequence[AsymmetricUnit]) -> AsymmetricUnit:
    """Of descriptions with the same points the one with the smallest orientations, matrix entries in order."""
    if len(found) == 1:
        return found[0]
    modes = np.array([[site.orientation_mode for site in unit.template.sites] for unit in found])
    hands = np.array([[site.handedness for site in unit.template.sites] for unit in found])
    matrices = np.array([unit.rotations.flatten().numpy() for unit in found])
    return found[smallest_row(np.concatenate([modes, -hands, matrices], axis=1), ROTATION_TIE)]


def _image(unit: RigidUnit, fit: UnitFit, operation: NDArray[np.int64], lattice: FloatArray) -> tuple[FloatArray, int]:
    """Canonical orientation and handedness of a unit after a symmetry operation."""
    if unit.is_monatomic:
        return np.eye(3), 1
    cart = lattice.T @ operation @ np.linalg.inv(lattice).T
    handedness = fit.handedness
    rotation = cart @ fit.rotation
    if np.linalg.det(cart) < 0 and not unit.is_linear:
        if unit.is_chiral:
            rotation, handedness = -rotation, -handedness
        else:
            body = unit_symmetry(unit)[1]
            rotation = rotation @ body[np.linalg.det(body) < 0][0]
    return canonical_rotation(unit, rotation), handedness


def _best_mode(
    unit: RigidUnit, rotation: FloatArray, site: WyckoffSite, crystal: _Description
) -> tuple[int, FloatArray]:
    """Orientation mode, and the equivalent orientation that is closest to it."""
    if unit.is_monatomic or len(site.stabilizer_rotations) == 1:
        return 0, rotation
    group, lattice = crystal.group, crystal.lattice
    stabilizer = torch.as_tensor(lattice.T @ site.stabilizer_rotations @ np.linalg.inv(lattice).T)[None]
    start = equivalent_rotations(unit, rotation)
    found: list[tuple[float, int, FloatArray]] = []
    for mode, operations in enumerate(orientation_modes(unit, group.hall_number, site.letter)):
        body = torch.as_tensor(operations.copy())
        moved = project_orientation(torch.as_tensor(start), stabilizer, body, unit.is_linear).numpy()
        gaps = np.abs((moved - start) @ unit.body.T).max((1, 2))
        found += [(float(gap), mode, matrix) for gap, matrix in zip(gaps, moved, strict=True)]
    low = min((gap for gap, _, _ in found), default=np.inf)
    if low > MODE_LIMIT:
        raise ComputationError(
            f"unit {unit.name} ({unit.point_group[0]}) lies on site {site.label} of {group.symbol}, whose symmetry "
            f"{site.site_symmetry} it does not have there; use a smaller symprec, or a unit of that symmetry"
        )
    mode = min(mode for gap, mode, _ in found if gap < low + MODE_TIE)
    equivalents = [matrix for gap, number, matrix in found if gap < low + MODE_TIE and number == mode]
    canonical = canonical_rotation(unit, equivalents[0])
    distances = [float(np.abs(matrix - canonical).max()) for matrix in equivalents]
    return mode, equivalents[int(np.argmin(distances))]

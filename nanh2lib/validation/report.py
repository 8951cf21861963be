"""All checks of generated or relaxed crystals; what cannot be measured has failed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
import torch
from pydantic import Field
from pymatgen.core import Structure

from nanh2lib.crystal.asymmetric_unit import AsymmetricUnit
from nanh2lib.crystal.connectivity import check_counts, find_fragments
from nanh2lib.crystal.expansion import Crystals, expand_tensors
from nanh2lib.crystal.pair_limits import REALISTIC_LIMITS, PairLimits
from nanh2lib.crystal.rigid_unit import Compound
from nanh2lib.crystal.setting import checked_structure
from nanh2lib.crystal.space_group import SpaceGroup, hall_number_from_symbol
from nanh2lib.errors import InputError
from nanh2lib.records import Check, ValidationReport
from nanh2lib.settings import StageSettings
from nanh2lib.validation.contacts import Contacts, shortest_contacts
from nanh2lib.validation.fragments import GENERATED, RELAXED, FragmentLimits, measure_fragments
from nanh2lib.validation.symmetry import SymmetryFinding, find_symmetry

CHUNK = 256


class ValidationSettings(StageSettings):
    """Limits of the filters.

    Attributes
    ----------
    stage : {"generated", "relaxed"}
        Before relaxation contacts are judged, fragments are rigid and the space group must be
        the assigned one; afterwards contacts are only measured, fragments may have relaxed and
        a gain of symmetry is noted.
    pair_limits : mapping
        ``"Na-N": 2.1`` and so on, A; empty means the limits for NaNH2.
    limit_scale : float
        Factor on all contact limits; results quoted with another one than 1 must say so.
    symprec : float
        Tolerance of the symmetry search, A (supplement: 1e-2).
    symmetry_timeout : float
        Seconds that spglib may take for one crystal.
    """

    stage: Literal["generated", "relaxed"] = "generated"
    pair_limits: Mapping[str, float] = Field(default_factory=dict)
    limit_scale: float = Field(default=1.0, gt=0)
    symprec: float = Field(default=1e-2, gt=0)
    symmetry_timeout: float = Field(default=10.0, gt=0)

    def limits(self) -> PairLimits:
        """Contact limits by element pair.

        Raises
        ------
        InputError
            A pair is not written like ``Na-N``.
        """
        if not self.pair_limits:
            return REALISTIC_LIMITS.scaled(self.limit_scale)
        pairs = {}
        for name, distance in self.pair_limits.items():
            parts = name.split("-")
            if len(parts) != 2:
                raise InputError(f"pair_limits: {name!r} is not an element pair; write it like Na-N")
            pairs[parts[0], parts[1]] = distance
        return PairLimits.from_mapping(pairs).scaled(self.limit_scale)

    @property
    def fragment_limits(self) -> FragmentLimits:
        """Accepted bonds and angles at this stage."""
        return GENERATED if self.stage == "generated" else RELAXED


def validate(asymmetric_unit: AsymmetricUnit, settings: ValidationSettings | None = None) -> list[ValidationReport]:
    """Check a batch of crystals given by their asymmetric units.

    Parameters
    ----------
    asymmetric_unit : AsymmetricUnit
        Batch of B on one template; the template's group is the one they must have.
    settings : ValidationSettings, optional

    Returns
    -------
    list of ValidationReport
        Checks ``contacts``, ``fragments`` and ``symmetry`` of each crystal.
    """
    settings = settings or ValidationSettings()
    reports: list[ValidationReport] = []
    for begin in range(0, len(asymmetric_unit), CHUNK):
        reports += _validate_chunk(asymmetric_unit[begin : begin + CHUNK], settings)
    return reports


def _validate_chunk(unit: AsymmetricUnit, settings: ValidationSettings) -> list[ValidationReport]:
    finite = (
        torch.isfinite(unit.lattice_parameters).all(-1)
        & torch.isfinite(unit.frac_origins).flatten(1).all(-1)
        & torch.isfinite(unit.rotations).flatten(1).all(-1)
    )
    failed = ValidationReport((Check("finite", False, "not a number", "finite", "cell, position or orientation"),))
    reports = [failed] * len(unit)
    rows = finite.nonzero()[:, 0]
    independent = independent_atoms(unit)
    if len(rows):
        with torch.no_grad():
            crystals = expand_tensors(unit[rows])
            contacts = shortest_contacts(crystals, settings.limits(), independent)
        findings = find_symmetry(
            crystals.structures(), unit.template.space_group, settings.symprec, settings.symmetry_timeout
        )
        for index, (row, finding) in enumerate(zip(rows.tolist(), findings, strict=True)):
            checks = [
                contact_check(contacts, index, crystals.species, settings),
                _fragment_check(crystals, index, independent, settings),
                symmetry_check(finding, unit.template.space_group.symbol, settings),
            ]
            reports[row] = ValidationReport(tuple(checks))
    return reports


def independent_atoms(unit: AsymmetricUnit) -> torch.Tensor:
    """Indices of the first image of each unit in the expanded crystal: the asymmetric unit's atoms."""
    first: list[int] = []
    start = 0
    for site, multiplicity in zip(unit.template.sites, unit.template.multiplicities, strict=True):
        first += range(start, start + site.unit.n_atoms)
        start += site.unit.n_atoms * multiplicity
    return torch.tensor(first)


def contact_check(contacts: Contacts, index: int, species: Sequence[str], settings: ValidationSettings) -> Check:
    """Verdict on the closest contact (relative to its limit) of one crystal of a batch."""
    worst = int(contacts.worst()[index])
    distance, limit = float(contacts.distances[index, worst]), float(contacts.limits[worst])
    i, j = contacts.atoms[index, worst].tolist()
    passed = settings.stage == "relaxed" or bool(contacts.passed[index])
    pair = "-".join(contacts.pairs[worst])
    if not np.isfinite(distance):
        passed = passed and distance == np.inf
        return Check("contacts", passed, f"{pair} {distance}", f"{limit:.2f} A", "no contact within reach")
    detail = f"between {species[i]}{i} and {species[j]}{j}"
    return Check("contacts", passed, f"{pair} {distance:.3f} A", f"{limit:.2f} A", detail)


def _fragment_check(crystals: Crystals, index: int, independent: torch.Tensor, settings: ValidationSettings) -> Check:
    """Fragments of the asymmetric unit only: the others are their images under isometries."""
    units: dict[int, list[int]] = {}
    for atom in independent.tolist():
        units.setdefault(int(crystals.unit_index[atom]), []).append(atom)
    cart = (crystals.frac_coords[index] @ crystals.lattice[index]).to(torch.float64).numpy()
    return fragment_check(crystals.species, cart, list(units.values()), settings)


def fragment_check(
    species: Sequence[str], cart_coords: np.ndarray, units: Sequence[Sequence[int]], settings: ValidationSettings
) -> Check:
    """Verdict on the bonds and angles of all molecules of a crystal."""
    finding = measure_fragments(species, cart_coords, units, settings.fragment_limits)
    ranges = {**finding.bonds, **finding.angles}
    measured = ", ".join(f"{name} {low:.3f} to {high:.3f}" for name, (low, high) in ranges.items()) or "single atoms"
    limits = {**settings.fragment_limits.bonds, **settings.fragment_limits.angles}
    text = ", ".join(f"{name} {low:g} to {high:g}" for name, (low, high) in limits.items())
    return Check("fragments", not finding.broken, measured, text, "; ".join(finding.broken))


def symmetry_check(finding: SymmetryFinding, expected: str, settings: ValidationSettings) -> Check:
    """Verdict on the space group: the assigned one, or (after relaxation) one that contains it."""
    good = finding.verdict == "same" or (settings.stage == "relaxed" and finding.verdict == "gained")
    measured = f"{finding.symbol} ({finding.number})" if finding.number else "none"
    detail = finding.detail or ("" if finding.verdict == "same" else f"symmetry {finding.verdict}")
    return Check("symmetry", good, measured, f"{expected} at {settings.symprec:g} A", detail)


def validate_structures(
    structures: Sequence[Structure],
    settings: ValidationSettings | None = None,
    *,
    space_group: str | int | None = None,
    compound: Compound | None = None,
) -> list[ValidationReport]:
    """Check crystals given by all their atoms, such as published or relaxed ones.

    Parameters
    ----------
    structures : sequence of Structure
    settings : ValidationSettings, optional
        Default: the limits of relaxed crystals.
    space_group : str or int, optional
        Symbol or number that each must have; without it the group found is reported.
    compound : Compound, optional
        Units to expect; without it they are whatever is bonded.

    Returns
    -------
    list of ValidationReport
        A structure that cannot be measured fails, with the reason.

    Raises
    ------
    InputError
        The space group does not exist.
    """
    settings = settings or ValidationSettings(stage="relaxed")
    number = _group_number(space_group)
    return [_validate_structure(structure, settings, number, compound) for structure in structures]


def _group_number(space_group: str | int | None) -> int | None:
    if space_group is None:
        return None
    text = str(space_group)
    if text.isdigit():
        return SpaceGroup.from_number(int(text)).number
    return SpaceGroup.from_hall(hall_number_from_symbol(text)).number


def _validate_structure(
    structure: Structure, settings: ValidationSettings, number: int | None, compound: Compound | None
) -> ValidationReport:
    try:
        crystal = checked_structure(structure)
        fragments = find_fragments(crystal)
        if compound is not None:
            check_counts(fragments, compound)
    except InputError as error:
        return ValidationReport((Check("fragments", False, "not measurable", "whole units", str(error)),))
    order = [i for fragment in fragments for i in fragment.indices]
    frac = np.concatenate([fragment.frac_coords for fragment in fragments])
    owner = [k for k, fragment in enumerate(fragments) for _ in fragment.indices]
    species = tuple(s for fragment in fragments for s in fragment.species)
    lattice = torch.as_tensor(np.array(crystal.lattice.matrix))[None]
    crystals = Crystals(lattice, torch.as_tensor(frac)[None], species, torch.tensor(owner))
    contacts = shortest_contacts(crystals, settings.limits())
    units = [[position for position, k in enumerate(owner) if k == unit] for unit in range(len(fragments))]
    (finding,) = find_symmetry([crystal], number, settings.symprec, settings.symmetry_timeout)
    expected = SpaceGroup.from_number(number).symbol if number else "any"
    labels = [f"{s}" for s in species]
    check = contact_check(contacts, 0, labels, settings)
    i, j = contacts.atoms[0, int(contacts.worst()[0])].tolist()
    detail = f"between sites {order[i]} and {order[j]}" if "between" in check.detail else check.detail
    return ValidationReport(
        (
            Check(check.name, check.passed, check.measured, check.limit, detail),
            fragment_check(species, frac @ crystal.lattice.matrix, units, settings),
            symmetry_check(finding, expected, settings),
        )
    )

"""All checks of generated or relaxed crystals; what cannot be measured has failed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
import torch
from pydantic import Field
from pymatgen.core import Structure

from nanh2lib.crystal.asymmetric_unit import AsymmetricUnit, Template
from nanh2lib.crystal.connectivity import Fragment, check_counts, expected_compound, infer_units
from nanh2lib.crystal.pair_limits import REALISTIC_LIMITS, PairLimits
from nanh2lib.crystal.rigid_unit import Compound, RigidUnit
from nanh2lib.crystal.space_group import SpaceGroup, hall_number_from_symbol
from nanh2lib.crystal.unit_fit import fit_unit
from nanh2lib.errors import InputError, Nanh2Error
from nanh2lib.geometry.lattice import lattice_is_valid
from nanh2lib.records import Check, ValidationReport
from nanh2lib.settings import StageSettings
from nanh2lib.validation.cells import (
    Cells,
    UnitsOfStructure,
    cells_of_asymmetric_units,
    cells_of_units,
    join_cells,
    units_of_structure,
)
from nanh2lib.validation.contacts import ContactTable, contacts_of_cells
from nanh2lib.validation.fragments import (
    GENERATED,
    RELAXED,
    FragmentFinding,
    FragmentLimits,
    Placed,
    measure_fragments,
)
from nanh2lib.validation.symmetry import SymmetryFinding, find_symmetry, find_symmetry_of_cells

CHUNK = 256
_MEASURING_ERRORS = (Nanh2Error, ValueError, ArithmeticError, RuntimeError, LookupError)


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
        return PairLimits.from_names(self.pair_limits).scaled(self.limit_scale)

    @property
    def fragment_limits(self) -> FragmentLimits:
        """Accepted deviations of bonds and angles at this stage."""
        return GENERATED if self.stage == "generated" else RELAXED


def validate(
    asymmetric_units: AsymmetricUnit | Sequence[AsymmetricUnit], settings: ValidationSettings | None = None
) -> list[ValidationReport]:
    """Check crystals given by their asymmetric units.

    Parameters
    ----------
    asymmetric_units : AsymmetricUnit or sequence of AsymmetricUnit
        A batch on one template, or batches on any templates. The template's group is the one
        that each crystal must have.
    settings : ValidationSettings, optional

    Returns
    -------
    list of ValidationReport
        Checks ``contacts``, ``fragments`` and ``symmetry`` of each crystal, batch after batch. A
        crystal that cannot be measured fails, with the reason.
    """
    settings = settings or ValidationSettings()
    batches = [asymmetric_units] if isinstance(asymmetric_units, AsymmetricUnit) else list(asymmetric_units)
    singles = [batch[i].detach() for batch in batches for i in range(len(batch))]
    reports: dict[int, ValidationReport] = {}
    groups: dict[object, list[int]] = {}
    for place, single in enumerate(singles):
        if _is_measurable(single):
            groups.setdefault(_layout_key(single.template), []).append(place)
        else:
            reports[place] = _unmeasurable("cell, position or orientation is not a finite number, or no cell")
    for places in groups.values():
        for begin in range(0, len(places), CHUNK):
            part = places[begin : begin + CHUNK]
            reports.update(zip(part, _validate_group([singles[i] for i in part], settings), strict=True))
    return [reports[place] for place in range(len(singles))]


def _is_measurable(unit: AsymmetricUnit) -> bool:
    finite = torch.isfinite(unit.frac_origins).all() & torch.isfinite(unit.rotations).all()
    return bool(finite & lattice_is_valid(unit.lattice_parameters, 0.0).all())


def _layout_key(template: Template) -> object:
    """Equal for templates whose expansions hold the same units in the same order."""
    kinds: list[tuple[RigidUnit, int]] = []
    for site, multiplicity in zip(template.sites, template.multiplicities, strict=True):
        if kinds and kinds[-1][0] == site.unit:
            kinds[-1] = (site.unit, kinds[-1][1] + multiplicity)
        else:
            kinds.append((site.unit, multiplicity))
    return tuple(kinds)


def _validate_group(units: Sequence[AsymmetricUnit], settings: ValidationSettings) -> list[ValidationReport]:
    try:
        return _measure_group(units, settings)
    except _MEASURING_ERRORS as error:
        # One crystal must not take the others with it.
        if len(units) == 1:
            return [_unmeasurable(str(error))]
        return [_validate_group([unit], settings)[0] for unit in units]


def _measure_group(units: Sequence[AsymmetricUnit], settings: ValidationSettings) -> list[ValidationReport]:
    by_template: dict[Template, list[int]] = {}
    for place, unit in enumerate(units):
        by_template.setdefault(unit.template, []).append(place)
    order = [place for places in by_template.values() for place in places]
    parts = [cells_of_asymmetric_units(AsymmetricUnit.cat([units[i] for i in p])) for p in by_template.values()]
    cells = parts[0] if len(parts) == 1 else join_cells(parts)
    groups = [units[place].template.space_group for place in order]
    table = contacts_of_cells(cells, settings.limits())
    fragments = _fragments(cells, placed_units(units[0].template), settings)
    symmetry = find_symmetry_of_cells(cells.plain(), groups, settings.symprec, settings.symmetry_timeout)
    reports: dict[int, ValidationReport] = {}
    for index, (place, finding) in enumerate(zip(order, symmetry, strict=True)):
        checks = (
            contact_check(table, index, cells.species, settings),
            fragment_check(fragments[index]),
            symmetry_check(finding, groups[index].symbol, settings),
        )
        reports[place] = ValidationReport(checks)
    return [reports[place] for place in range(len(units))]


def _unmeasurable(reason: str) -> ValidationReport:
    return ValidationReport((Check("measurable", False, "not measurable", "finite crystal", reason),))


def placed_units(template: Template) -> tuple[Placed, ...]:
    """Atoms of all units of an expanded template, by kind."""
    kinds: dict[RigidUnit, list[list[int]]] = {}
    start = 0
    for site, multiplicity in zip(template.sites, template.multiplicities, strict=True):
        for _ in range(multiplicity):
            kinds.setdefault(site.unit, []).append(list(range(start, start + site.unit.n_atoms)))
            start += site.unit.n_atoms
    return tuple(Placed(unit, np.array(atoms)) for unit, atoms in kinds.items())


def _fragments(cells: Cells, placed: Sequence[Placed], settings: ValidationSettings) -> list[FragmentFinding]:
    cart = (cells.frac_coords @ cells.lattice).to(torch.float64).numpy()
    return measure_fragments(cart, placed, settings.fragment_limits)


def contact_check(table: ContactTable, index: int, species: Sequence[str], settings: ValidationSettings) -> Check:
    """Verdict on the contact of one crystal that is shortest against its limit.

    At stage ``relaxed`` it is measured but not judged.
    """
    place = table.tightest(index)
    pair = "-".join(sorted(table.pairs[place], key=_pair_order))
    distance, limit = float(table.distances[index, place]), float(table.limits[place])
    judged = settings.stage == "generated"
    asked = f"{limit:.2f} A" if judged else f"{limit:.2f} A, not judged after relaxation"
    if np.isnan(distance):
        return Check("contacts", False, f"{pair} nan", asked, "distances are not numbers")
    if np.isinf(distance):
        return Check("contacts", True, "none within reach", asked)
    i, j = table.atoms[index, place].tolist()
    passed = bool(table.passed[index]) or not judged
    return Check("contacts", passed, f"{pair} {distance:.3f} A", asked, f"between {species[i]}{i} and {species[j]}{j}")


def _pair_order(symbol: str) -> tuple[bool, bool, str]:
    return (symbol == "H", symbol != "Na", symbol)


def fragment_check(finding: FragmentFinding) -> Check:
    """Verdict on bonds and angles; names the broken units."""
    detail = "; ".join(finding.broken[:4])
    if len(finding.broken) > 4:
        detail += f"; and {len(finding.broken) - 4} more"
    return Check("fragments", not finding.broken, finding.measured, finding.limit or "none", detail)


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
        Units come from the ``unit_index`` site property where every site has it, else from bonds.
    settings : ValidationSettings, optional
        Default: the limits of relaxed crystals.
    space_group : str or int, optional
        Symbol or number that each must have; without it the group found is reported.
    compound : Compound, optional
        Units to expect. Without it: sodium amide where the composition is NaNH2, else each kind
        of fragment takes the geometry of its first member.

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
        units = units_of_structure(structure)
        placed = _placed_fragments(units, compound)
        cells = cells_of_units(units)
        table = contacts_of_cells(cells, settings.limits())
        (fragment,) = _fragments(cells, placed, settings)
    except _MEASURING_ERRORS as error:
        return ValidationReport((Check("fragments", False, "not measurable", "whole units", str(error)),))
    (finding,) = find_symmetry([units.crystal], number, settings.symprec, settings.symmetry_timeout)
    expected = SpaceGroup.from_number(number).symbol if number else "any"
    return ValidationReport(
        (
            contact_check(table, 0, cells.species, settings),
            fragment_check(fragment),
            symmetry_check(finding, expected, settings),
        )
    )


def _placed_fragments(units: UnitsOfStructure, compound: Compound | None) -> list[Placed]:
    """The fragments as units of the compound, atoms in the order of the bodies."""
    lattice = np.asarray(units.crystal.lattice.matrix)
    compound = expected_compound(units.crystal, compound)
    if compound is not None:
        check_counts(units.fragments, compound)
        kinds = compound.units
    else:
        kinds = infer_units(units.fragments, lattice)
    found: dict[RigidUnit, list[list[int]]] = {}
    for fragment in units.fragments:
        unit, order = _best_kind(fragment, kinds, lattice)
        found.setdefault(unit, []).append([fragment.indices[i] for i in order])
    return [Placed(unit, np.array(atoms)) for unit, atoms in found.items()]


def _best_kind(
    fragment: Fragment, kinds: Sequence[RigidUnit], lattice: np.ndarray
) -> tuple[RigidUnit, tuple[int, ...]]:
    cart = fragment.frac_coords @ lattice
    fits = [
        (fit_unit(kind, fragment.species, cart), kind)
        for kind in kinds
        if sorted(kind.species) == sorted(fragment.species)
    ]
    if not fits:
        raise InputError(f"atoms {list(fragment.indices)} form {fragment.formula!r}, which is no unit of the compound")
    fit, kind = min(fits, key=lambda item: item[0].rms)
    return kind, fit.order

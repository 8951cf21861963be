import numpy as np
import pytest
import torch
from pymatgen.core import Lattice, Structure

from nanh2lib import expand, extract_asymmetric_unit, published_structures, reference_structure
from nanh2lib.crystal.asymmetric_unit import AsymmetricUnit, Site, Template
from nanh2lib.crystal.rigid_unit import NA, SODIUM_AMIDE, Compound, RigidUnit
from nanh2lib.errors import ComputationError, InputError
from nanh2lib.validation import ValidationSettings, report, validate, validate_structures


@pytest.fixture(scope="module")
def entries():
    return published_structures()


@pytest.fixture(scope="module")
def units(entries):
    return [extract_asymmetric_unit(e.structure, compound=SODIUM_AMIDE) for e in entries]


def by_name(validation):
    return {check.name: check for check in validation.checks}


def test_published_structures_pass_as_relaxed_crystals(entries):
    for entry in entries:
        (found,) = validate_structures([entry.structure], space_group=entry.space_group)
        assert found.passed, found.reason
        assert set(by_name(found)) == {"contacts", "fragments", "symmetry"}


def test_thirty_four_angles_lie_outside_the_window_of_generated_units(entries):
    settings = ValidationSettings(stage="generated")
    broken = 0
    for entry in entries:
        units = report.units_of_structure(entry.structure)
        placed = report._placed_fragments(units, SODIUM_AMIDE)
        cells = report.cells_of_units(units)
        (finding,) = report._fragments(cells, placed, settings)
        broken += len(finding.broken)
    assert broken == 34  # of the 94 in the cells of the tables


def test_printed_misprint_fails_every_check(entries):
    wrong = next(e for e in entries if e.table == "S1" and e.space_group == "P2_1")
    (found,) = validate_structures([wrong.structure_as_printed], ValidationSettings(), space_group="P2_1")
    assert not any(check.passed for check in found.checks)


def test_asymmetric_units_in_any_mixture_give_reports_in_order(units):
    settings = ValidationSettings(stage="relaxed")
    together = validate(units, settings)
    alone = [validate(u, settings)[0] for u in units]

    def verdicts(reports):
        # Which of several equal contacts is named depends on the atoms that are looked at.
        return [[(c.name, c.passed, c.measured, c.limit) for c in r.checks] for r in reports]

    assert verdicts(alone) == verdicts(together)
    assert all(found.passed for found in together)
    batch = AsymmetricUnit.cat([units[1], units[1]])
    assert len(validate(batch, settings)) == 2


def test_contact_report_names_pair_distance_limit_and_atoms(units):
    scaled = ValidationSettings(limit_scale=1.3)
    check = by_name(validate(units[0], scaled)[0])["contacts"]
    assert not check.passed
    assert check.measured.startswith("Na-")
    assert check.measured.endswith(" A")
    assert check.limit.endswith(" A")
    assert check.detail.startswith("between ")


def test_contacts_are_measured_but_not_judged_after_relaxation(units):
    scaled = ValidationSettings(limit_scale=1.3, stage="relaxed")
    check = by_name(validate(units[0], scaled)[0])["contacts"]
    assert check.passed
    assert "not judged" in check.limit


def test_gain_of_symmetry_fails_a_generated_and_is_noted_for_a_relaxed_crystal():
    structure = reference_structure("alpha")
    alpha = extract_asymmetric_unit(structure)
    (full,) = expand(alpha)
    free = extract_asymmetric_unit(_shaken(full))
    assert free.space_group_number == 1
    sites = tuple(Site(site.unit, "a") for site in free.template.sites)
    low = free.replace(template=Template(1, sites))
    loose = {"symprec": 0.2, "limit_scale": 0.9}
    generated = by_name(validate(low, ValidationSettings(**loose))[0])["symmetry"]
    relaxed = by_name(validate(low, ValidationSettings(stage="relaxed", **loose))[0])["symmetry"]
    assert not generated.passed
    assert relaxed.passed
    assert generated.detail == relaxed.detail == "symmetry gained"


def _shaken(structure):
    """Off its symmetry by 0.02 A: P1 at 0.01, the old group at 0.2."""
    generator = np.random.default_rng(0)
    moved = structure.copy()
    index = np.array(structure.site_properties["unit_index"])
    shifts = generator.normal(scale=0.02, size=(index.max() + 1, 3))
    for i, unit in enumerate(index):
        moved.translate_sites([i], shifts[unit], frac_coords=False)
    return moved


def test_loss_of_symmetry_always_fails(entries):
    for stage in ("generated", "relaxed"):
        (found,) = validate_structures([entries[0].structure], ValidationSettings(stage=stage), space_group="P2_1/c")
        assert by_name(found)["symmetry"].detail == "symmetry lost"
        assert not found.passed


@pytest.mark.parametrize("field", ["lattice_parameters", "frac_origins", "rotations"])
def test_nan_fails_that_crystal_and_no_other(units, field):
    batch = AsymmetricUnit.cat([units[1]] * 3)
    values = getattr(batch, field).clone()
    values[1].flatten()[0] = torch.nan
    reports = validate(batch.replace(**{field: values}), ValidationSettings(stage="relaxed"))
    assert [r.passed for r in reports] == [True, False, True]
    assert "not a finite number" in reports[1].reason


def test_a_cell_that_does_not_close_fails(units):
    cells = units[1].lattice_parameters.clone()
    cells[0, 3:] = torch.tensor([30.0, 30.0, 100.0])
    (found,) = validate(units[1].replace(lattice_parameters=cells))
    assert not found.passed


def test_an_error_while_measuring_fails_that_crystal_and_no_other(units, monkeypatch):
    real = report.contacts_of_cells

    def sometimes(cells, limits):
        if bool((cells.lattice[:, 0, 0] > 9).any()):
            raise ComputationError("the ruler broke")
        return real(cells, limits)

    monkeypatch.setattr(report, "contacts_of_cells", sometimes)
    short = units[1]
    stretch = torch.tensor([1.5, 1.5, 1.5, 1.0, 1.0, 1.0], dtype=torch.float64)
    long = short.replace(lattice_parameters=short.lattice_parameters * stretch)
    reports = validate([short, long, short], ValidationSettings(stage="relaxed"))
    assert [r.passed for r in reports] == [True, False, True]
    assert "the ruler broke" in reports[1].reason


@pytest.mark.parametrize(
    "structure",
    [
        Structure(Lattice.cubic(5), [], []),
        Structure(Lattice.cubic(5), ["Na"], [[np.nan, 0, 0]]),
        Structure(Lattice.cubic(5), [{"Na": 0.5, "K": 0.5}], [[0, 0, 0]]),
        Structure(Lattice([[5, 0, 0], [0, 5, 0], [0, 0, 0]]), ["Na"], [[0, 0, 0]]),
        Structure(Lattice.cubic(1.4), ["C"], [[0, 0, 0]]),
    ],
)
def test_what_cannot_be_measured_has_failed(structure):
    (found,) = validate_structures([structure])
    assert not found.passed
    assert found.reason


def test_broken_and_foreign_units_are_named(entries):
    moved = entries[0].structure.copy()
    hydrogen = next(i for i, site in enumerate(moved) if site.specie.symbol == "H")
    moved.translate_sites([hydrogen], [0, 0, 0.8], frac_coords=False)
    (found,) = validate_structures([moved])
    assert not found.passed
    assert "is not a unit of NaNH2" in found.reason or "N-H" in found.reason
    potassium = Compound("KNH2", (RigidUnit("K", ("K",)), SODIUM_AMIDE.units[1]), (1, 1))
    (foreign,) = validate_structures([entries[0].structure], compound=potassium)
    assert "which is not a unit of KNH2" in foreign.reason


def test_generated_crystal_keeps_its_units_by_the_site_property(units):
    (structure,) = expand(units[1])
    (found,) = validate_structures([structure], space_group=14)
    assert found.passed, found.reason
    # H atoms of two molecules at bonding distance: a clash of units, not a new molecule.
    crashed = structure.copy()
    first = [i for i, unit in enumerate(structure.site_properties["unit_index"]) if unit == 4]
    shift = structure[first[1]].coords - structure[first[1] + 3].coords + [0, 0, 0.7]
    for i in range(first[0] + 3, first[0] + 6):
        crashed.translate_sites([i], shift, frac_coords=False)
    (clash,) = validate_structures([crashed], ValidationSettings())
    assert not by_name(clash)["contacts"].passed


def test_other_compounds_without_limits_use_van_der_waals_fractions():
    salt = Compound("Na", (NA,), (1,))
    structure = Structure(Lattice.cubic(4.2), ["Na"], [[0, 0, 0]])
    (found,) = validate_structures([structure], space_group=221, compound=salt)
    assert found.passed, found.reason


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"limit_scale": 0}, "limit_scale"),
        ({"symprec": -1}, "symprec"),
        ({"stage": "raw"}, "stage"),
        ({"symmetry_timout": 3}, "did you mean 'symmetry_timeout'"),
    ],
)
def test_bad_settings_get_one_clear_error(data, message):
    with pytest.raises(InputError, match=message):
        ValidationSettings.from_mapping(data)


def test_a_group_that_does_not_exist_is_an_input_error(entries):
    with pytest.raises(InputError):
        validate_structures([entries[0].structure], space_group="Pxyz")
    with pytest.raises(InputError):
        validate_structures([entries[0].structure], space_group=231)

"""Tables S1 and S2 as data: complete, guarded, and crystals of NaNH2."""

import copy
import itertools
import json
from importlib.resources import files

import numpy as np
import pytest
from pymatgen.analysis.structure_matcher import StructureMatcher
from pymatgen.core import Structure

from nanh2lib.errors import InputError
from nanh2lib.report.cif import published_cifs, write_cifs
from nanh2lib.report.measurements import space_group_of
from nanh2lib.report.published import (
    parse_published,
    published_structure,
    published_structures,
    reference_record,
    reference_structure,
)

# table, symbol, number, Z, rows by element, sum of all printed coordinates (added up from the supplement)
EXPECTED = [
    ("S1", "P2_12_12", 18, 2, (1, 1, 1)),
    ("S1", "P2_1/c", 14, 4, (2, 1, 1)),
    ("S1", "Pcca", 54, 8, (2, 1, 1)),
    ("S1", "P2_1", 4, 16, (16, 8, 8)),
    ("S2", "P2_1/c", 14, 16, (8, 4, 4)),
    ("S2", "P2_1", 4, 16, (16, 8, 8)),
    ("S2", "P2/c", 13, 16, (8, 4, 4)),
    ("S2", "Pc", 7, 16, (16, 8, 8)),
]
STRUCTURES = published_structures()
KEYS = [item.key for item in STRUCTURES]


def document():
    return json.loads((files("nanh2lib") / "data" / "published.json").read_text(encoding="utf-8"))


def test_tables_are_complete():
    found = []
    for item in STRUCTURES:
        elements = [row.element for row in item.printed.rows]
        assert elements == sorted(elements), "rows are printed in the order H, N, Na"
        counts = tuple(elements.count(element) for element in ("H", "N", "Na"))
        found.append((item.table, item.space_group, item.space_group_number, item.z, counts))
    assert found == EXPECTED
    assert len(set(KEYS)) == 8


def test_printed_strings_are_kept():
    rows = published_structure("S1-P21212").printed.rows
    assert [row.label for row in rows] == ["4c", "2b", "2a"]
    assert rows[2].x == "-0.0000"
    pcca = published_structure("S1-Pcca").printed
    assert (pcca.rows[0].x, pcca.rows[0].y, pcca.rows[0].z) == ("1.4221", "0.3611", "1.1105")
    assert published_structure("S1-P21c").printed.angles == ("90.000", "145.882", "90.000")
    last = published_structure("S2-P21c").printed.rows[-1]
    assert (last.x, last.y, last.z) == ("-0.4582", "0.3981", "1.0756")


@pytest.mark.parametrize("item", STRUCTURES, ids=KEYS)
def test_cell_holds_z_formula_units(item):
    composition = item.structure.composition
    assert (composition["Na"], composition["N"], composition["H"]) == (item.z, item.z, 2 * item.z)
    assert (item.structure.frac_coords >= 0).all()
    assert (item.structure.frac_coords < 1).all()


@pytest.mark.parametrize("item", STRUCTURES, ids=KEYS)
def test_expansion_equals_pymatgen_on_the_same_rows(item):
    rows = item.corrected.rows
    other = Structure.from_spacegroup(
        item.space_group,
        item.structure.lattice,
        [row.element for row in rows],
        [row.coordinates for row in rows],
        tol=1e-3,
    )
    for element in ("Na", "N", "H"):
        one, two = ([s.frac_coords for s in x if s.specie.symbol == element] for x in (item.structure, other))
        gap = np.array(one)[:, None] - np.array(two)[None]
        assert np.abs(gap - np.round(gap)).max(-1).min(1).max() < 1e-6
        assert len(one) == len(two)


@pytest.mark.parametrize("symprec", [1e-3, 1e-2])
@pytest.mark.parametrize("item", STRUCTURES, ids=KEYS)
def test_space_group_is_recovered(item, symprec):
    assert space_group_of(item.structure, symprec) == (item.space_group, item.space_group_number)


def test_errata_are_kept_apart():
    p21 = published_structure("S1-P21")
    assert p21.printed.angles[2] == "120.000"
    assert p21.corrected.angles[2] == "90.000"
    assert p21.structure_as_printed.lattice.gamma == pytest.approx(120.0)
    assert p21.structure.lattice.gamma == pytest.approx(90.0)
    p2c = published_structure("S2-P2c")
    assert {row.label for row in p2c.printed.rows} == {"4e", "4g"}
    assert {row.label for row in p2c.corrected.rows} == {"4g"}
    assert [e.kind for e in published_structure("S1-Pcca").errata] == ["remark"]
    for item in STRUCTURES:
        assert all(erratum.evidence for erratum in item.errata)
        if item.key not in ("S1-P21", "S2-P2c"):
            assert item.structure == item.structure_as_printed


def mutations():
    yield "coordinate changed", lambda d: d["structures"][0]["rows"][0].__setitem__(2, "0.2911")
    yield "coordinate deleted", lambda d: d["structures"][3]["rows"][5].pop()
    yield "length deleted", lambda d: d["structures"][6]["lengths"].pop()
    yield "row deleted", lambda d: d["structures"][1]["rows"].pop()
    yield "structure deleted", lambda d: d["structures"].pop()
    yield "erratum deleted", lambda d: d["errata"].pop(0)


@pytest.mark.parametrize(("name", "mutate"), mutations(), ids=[name for name, _ in mutations()])
def test_a_changed_or_lost_number_is_an_error(name, mutate):
    changed = copy.deepcopy(document())
    mutate(changed)
    with pytest.raises(InputError, match=r"published\.json"):
        parse_published(changed)


def test_lost_numbers_are_found_without_the_checksum_too():
    for structure in range(8):
        for field in ("lengths", "angles"):
            changed = document()
            del changed["structures"][structure][field][1]
            with pytest.raises(InputError):
                parse_published(changed, checksum=None)
        for row, column in itertools.product((0, -1), (2, 3, 4)):
            changed = document()
            del changed["structures"][structure]["rows"][row][column]
            with pytest.raises(InputError):
                parse_published(changed, checksum=None)
        changed = document()
        del changed["structures"][structure]["rows"][0]
        with pytest.raises(InputError):
            parse_published(changed, checksum=None)


def test_structures_are_fresh_objects():
    published_structures()[0].structure.translate_sites([0], [0.1, 0, 0])
    assert published_structures()[0].structure == STRUCTURES[0].structure


def test_lookup_by_key_is_lenient_and_says_the_choices():
    assert published_structure("s1 P2_1/c").key == "S1-P21c"
    with pytest.raises(InputError, match="S2-Pc"):
        published_structure("S3-P1")


def test_no_two_published_structures_are_the_same_crystal():
    matcher = StructureMatcher(ltol=0.2, stol=0.3, angle_tol=5)
    for one, two in itertools.combinations(STRUCTURES, 2):
        if one.z == two.z:
            assert not matcher.fit(one.structure, two.structure)


def test_alpha_is_the_experimental_cell_in_origin_choice_1():
    alpha, record = reference_structure("alpha"), reference_record("alpha")
    assert len(alpha) == 64
    assert alpha.lattice.abc == pytest.approx((8.964, 10.456, 8.073))
    assert space_group_of(alpha, 1e-3) == ("Fddd", 70)
    assert record["hall_number"] == 335
    sodium, nitrogen = ([s.frac_coords for s in alpha if s.specie.symbol == e] for e in ("Na", "N"))
    assert any(x == 0 and z == 0 and 0.13 < y < 0.16 for x, y, z in sodium)
    assert any(x == 0 and y == 0 and 0.22 < z < 0.25 for x, y, z in nitrogen)


def test_alpha_says_where_its_numbers_come_from():
    source = reference_record()["provenance"]
    assert "Zalkin" in source["cell_and_sites"]
    assert "relaxed by us" in source["coordinates"]
    rigid = {r["potential"]: r for r in source["relaxations"] if r["method"].startswith("rigid")}
    assert rigid["chgnet"]["energy_ev_per_formula_unit"] == pytest.approx(-18.161, abs=2e-3)
    assert rigid["sevennet-0"]["energy_ev_per_formula_unit"] == pytest.approx(-17.834, abs=2e-3)
    assert all(r["converged"] for r in source["relaxations"])


def test_unknown_reference_names_the_choices():
    with pytest.raises(InputError, match="alpha"):
        reference_structure("beta")


def test_cifs_read_back_as_the_same_crystals(tmp_path):
    paths = write_cifs(tmp_path / "cifs")
    assert [path.stem for path in paths] == [*KEYS, "alpha"]
    assert not list((tmp_path / "cifs").glob("*.tmp"))
    matcher = StructureMatcher(scale=False)
    for path in paths:
        read = Structure.from_file(path)
        own = reference_structure() if path.stem == "alpha" else published_structure(path.stem).structure
        assert len(read) == len(own)
        assert matcher.get_rms_dist(read, own)[0] < 1e-4


def test_cif_keeps_the_printed_digits_and_says_the_erratum():
    corrected, printed = published_cifs()["S1-P21"], published_cifs(as_printed=True)["S1-P21"]
    assert "_cell_angle_gamma 90.000" in corrected
    assert "_cell_angle_gamma 120.000" in printed
    assert "not applied" in printed
    assert "0.2218 -0.0571 0.8647" in corrected


def test_cifs_in_an_impossible_place_are_a_clear_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot write"):
        write_cifs(tmp_path / "file")


@pytest.mark.slow
def test_shipped_alpha_is_at_rest_at_its_potential():
    """The committed coordinates are the minimum that scripts/make_alpha.py says they are."""
    from pymatgen.io.ase import AseAtomsAdaptor
    from sevenn.calculator import SevenNetCalculator

    free = reference_record()["provenance"]["relaxations"][-1]
    atoms = AseAtomsAdaptor.get_atoms(reference_structure().get_primitive_structure())
    atoms.calc = SevenNetCalculator("7net-0", device="cpu")
    per_formula_unit = atoms.get_potential_energy() / 4
    assert per_formula_unit == pytest.approx(free["energy_ev_per_formula_unit"], abs=2e-4)
    assert np.abs(atoms.get_forces()).max() < 5e-3  # five decimals are 5e-5 A

"""Crystals in the table format of the supplement."""

import numpy as np
import pytest
from pymatgen.analysis.structure_matcher import StructureMatcher
from pymatgen.core import Lattice, Structure

from nanh2lib.crystal.space_group import SpaceGroup
from nanh2lib.errors import ComputationError, InputError
from nanh2lib.report.published import published_structure, published_structures, reference_structure
from nanh2lib.report.setting import printed_labels, settle
from nanh2lib.report.tables import comparison_markdown, comparison_table, structure_table

STRUCTURES = published_structures()
KEYS = [item.key for item in STRUCTURES]
MATCHER = StructureMatcher(scale=False, primitive_cell=False)


def shaken(structure, amplitude, seed=0):
    moves = np.random.default_rng(seed).normal(scale=amplitude, size=(len(structure), 3))
    return Structure(structure.lattice, structure.species, structure.cart_coords + moves, coords_are_cartesian=True)


@pytest.mark.parametrize("item", STRUCTURES, ids=KEYS)
def test_a_published_crystal_comes_back_in_its_own_setting(item):
    table = structure_table(item.structure)
    assert table.title == item.title
    assert table.hall_number == item.hall_number
    assert not table.standardized
    assert [row.label for row in table.table.rows] == [row.label for row in item.corrected.rows]
    assert table.table.lengths == item.printed.lengths
    assert MATCHER.get_rms_dist(table.structure(), item.structure)[0] < 1e-4


def test_text_is_in_the_style_of_the_supplement():
    text = structure_table(published_structure("S1-P21c")).text()
    assert text.splitlines() == [
        "P2_1/c (Z = 4)",
        "a, b, c    7.121    6.337    7.030",
        "α, β, γ   90.000  145.882   90.000",
        "H(4e)     0.1624   0.2712   0.4787",
        "H(4e)     0.2581   0.3878   0.7556",
        "N(4e)     0.2806   0.2429   0.7070",
        "Na(4e)    0.3120   0.8606   0.7081",
    ]


def test_alpha_table_has_special_positions_and_origin_choice():
    table = structure_table(reference_structure())
    assert table.title == "Fddd (Z = 16), origin choice 1"
    assert [row.label for row in table.table.rows] == ["32h", "16g", "16f"]
    assert table.frame().shape == (5, 3)
    assert "| N(16g) | 0.0000 | 0.0000 | 0.2380 |" in table.markdown()


def test_the_origin_is_moved_onto_the_tabulated_one():
    alpha = reference_structure()
    moved = shaken(alpha, 5e-4)
    moved.translate_sites(range(64), [0.11, 0.23, 0.37])
    table = structure_table(moved)
    assert [row.label for row in table.table.rows] == ["32h", "16g", "16f"]
    assert MATCHER.get_rms_dist(table.structure(), alpha)[0] < 2e-3
    for row in table.table.rows[1:]:
        assert sum(value in ("0.0000", "0.2500", "0.5000", "0.7500") for value in (row.x, row.y, row.z)) == 2


def test_a_primitive_cell_is_standardized_and_says_so():
    alpha = reference_structure()
    table = structure_table(alpha.get_primitive_structure())
    assert table.standardized
    assert table.z == 16
    assert StructureMatcher().fit(table.structure(), alpha)


def test_hydrogens_stand_beside_their_nitrogen():
    table = structure_table(reference_structure()).table
    hydrogen, nitrogen = (row.coordinates for row in table.rows[:2])
    cell = np.array([8.964, 10.456, 8.073])
    assert np.linalg.norm((hydrogen - nitrogen) * cell) == pytest.approx(1.03, abs=0.02)


def test_labels_are_those_of_the_printed_setting():
    item = published_structure("S1-P21212")
    points = [row.coordinates for row in item.printed.rows]
    assert printed_labels(points, SpaceGroup.from_hall(item.hall_number)) == ["4c", "2b", "2a"]


def test_a_crystal_with_coinciding_atoms_is_a_clear_error():
    bad = Structure(Lattice.cubic(5), ["Na", "Na"], [[0, 0, 0], [0, 0, 0]])
    with pytest.raises(ComputationError, match="no space group"):
        settle(bad)


def test_comparison_keeps_printed_recomputed_and_difference_apart():
    item = published_structure("S1-P21212")
    relaxed = item.structure.copy()
    relaxed.apply_strain(0.01)
    frame = comparison_table(item, relaxed, source="test potential")
    assert list(dict.fromkeys(frame.columns.get_level_values(0))) == ["printed", "test potential", "difference"]
    assert list(frame.loc["a, b, c", "difference"]) == ["+0.037", "+0.047", "+0.053"]
    assert frame.loc["Na(2a)", ("printed", "1")] == "-0.0000"
    assert list(frame.loc["N(2b)", "difference"]) == ["0.0000"] * 3
    assert comparison_markdown(frame).count("\n") == len(frame) + 2


def test_comparison_finds_atoms_in_any_order_and_image():
    item = published_structure("S2-P21c")
    other = Structure.from_sites(list(reversed(item.structure)))
    other.translate_sites(range(0, 64, 3), [1, 0, -2], to_unit_cell=False)
    frame = comparison_table(item, other)
    assert set(frame["difference"].to_numpy().ravel()) <= {"0.0000", "0.000"}


def test_drift_along_a_polar_axis_is_no_difference():
    item = published_structure("S2-P21")
    other = item.structure.copy()
    other.translate_sites(range(64), [0, 0.013, 0])
    assert set(comparison_table(item, other)["difference"].to_numpy().ravel()) <= {"0.0000", "0.000"}


def test_comparison_with_another_compound_is_refused():
    salt = Structure(Lattice.cubic(5), ["Na", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    with pytest.raises(InputError, match="0 H"):
        comparison_table(STRUCTURES[0], salt)

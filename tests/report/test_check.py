"""What the published tables say, recomputed."""

import numpy as np
import pytest
from pymatgen.core import Structure

from nanh2lib.errors import InputError
from nanh2lib.report.check import all_hold, check_frame, check_markdown, check_published
from nanh2lib.report.measurements import measure
from nanh2lib.report.published import published_structure, published_structures, reference_structure

FACTS = {item.key: measure(item.structure) for item in published_structures()}


def test_everything_printed_holds_with_the_errata():
    rows = check_published()
    assert all_hold(rows)
    assert len({row.key for row in rows}) == 8
    quantities = {row.quantity for row in rows if row.key == "S2-Pc"}
    assert {"composition", "Z", "Wyckoff labels", "space group", "N-H", "H-N-H"} <= quantities
    assert sum(name.startswith("shortest") for name in quantities) == 6


def test_as_printed_shows_exactly_what_the_errata_mend():
    failed = {(row.key, row.quantity) for row in check_published(as_printed=True) if not row.passed}
    assert {key for key, _ in failed} == {"S1-P21", "S2-P2c"}
    assert ("S1-P21", "space group") in failed
    assert ("S1-P21", "N-H") in failed
    assert {name for key, name in failed if key == "S2-P2c"} == {"Wyckoff labels"}


def test_gamma_of_120_breaks_the_molecules_and_the_symmetry():
    rows = {row.quantity: row for row in check_published([published_structure("S1-P21")], as_printed=True)}
    assert rows["space group"].found == "P1 (No. 1)"
    assert rows["N-H"].found == "0.723 to 1.277 A"


def test_ranges_over_the_eight_structures():
    bonds = np.array([facts.n_h for facts in FACTS.values()])
    angles = np.array([facts.h_n_h for facts in FACTS.values()])
    volumes = [facts.volume_per_formula_unit for facts in FACTS.values()]
    assert (round(bonds.min(), 3), round(bonds.max(), 3)) == (1.018, 1.043)
    assert (round(angles.min(), 1), round(angles.max(), 1)) == (99.2, 104.7)
    assert (round(min(volumes), 1), round(max(volumes), 1)) == (40.5, 47.0)


@pytest.mark.parametrize(
    ("pair", "distance"), [("Na-Na", 2.81), ("Na-N", 2.34), ("N-N", 3.33), ("Na-H", 2.31), ("N-H", 2.44)]
)
def test_shortest_distances_over_the_eight_structures(pair, distance):
    assert round(min(facts.shortest[pair] for facts in FACTS.values()), 2) == distance


def test_a_third_of_the_angles_lies_outside_the_window_of_the_text():
    angles = np.concatenate([facts.angles for facts in FACTS.values()])
    outside = angles[(angles < 101) | (angles > 107)]
    assert (len(angles), len(outside)) == (94, 34)
    assert outside.max() < 101


def test_pcca_is_nearly_ibca():
    remarks = [row for row in check_published() if row.key == "S1-Pcca" and row.quantity == "remark: space group"]
    assert [row.found for row in remarks] == ["Ibca (No. 73)"]


def test_a_displaced_hydrogen_fails_the_check():
    item = published_structure("S1-P21c")
    item.structure.translate_sites([0], [0.0, 0.05, 0.0])
    failed = {row.quantity for row in check_published([item]) if not row.passed}
    assert {"space group", "N-H"} <= failed


def test_measure_is_independent_of_cell_choice_and_order():
    item = published_structure("S2-Pc").structure
    moved = item.copy()
    moved.translate_sites(range(len(moved)), [0.3, 0.7, 0.1])
    moved = Structure.from_sites(list(reversed(moved)))
    one, two = measure(item), measure(moved)
    assert one.shortest == pytest.approx(two.shortest)
    assert one.n_h == pytest.approx(two.n_h)
    small = published_structure("S1-P21212").structure
    assert measure(small * (2, 2, 2)).shortest == pytest.approx(measure(small).shortest)


def test_a_shared_hydrogen_is_not_intact():
    alpha = reference_structure()
    assert measure(alpha).intact
    first = next(i for i, site in enumerate(alpha) if site.specie.symbol == "H")
    alpha.translate_sites([first], [0.25, 0.25, 0.25])
    assert not measure(alpha).intact


def test_another_compound_is_refused():
    salt = Structure.from_spacegroup("Fm-3m", np.eye(3) * 5.64, ["Na", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    with pytest.raises(InputError, match="no N, H"):
        measure(salt)


def test_frame_and_markdown_hold_every_row():
    rows = check_published()
    frame = check_frame(rows)
    assert list(frame.columns) == ["key", "table", "quantity", "printed", "found", "limit", "verdict"]
    assert len(frame) == len(rows) == check_markdown(rows).count("\n") - 2
    assert not all_hold([])

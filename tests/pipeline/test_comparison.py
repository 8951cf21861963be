"""Relaxed candidates against known crystals, and verdicts of the filters on sets of crystals."""

from __future__ import annotations

import pandas as pd
import pytest

from nanh2lib.errors import InputError
from nanh2lib.pipeline import comparison
from nanh2lib.pipeline.draws import general_template, uniform_draws
from nanh2lib.pipeline.reproduce import find_by_method
from nanh2lib.pipeline.run import open_run
from nanh2lib.pipeline.validity import failed_checks, units_of, validity
from nanh2lib.ranking import RankedTable
from nanh2lib.records import RelaxationResult
from nanh2lib.report.published import published_structure, reference_structure


def _relaxed(structure, energy, group=1):
    return RelaxationResult(structure, "all_atom", "chgnet", energy, energy, 1, True, group, group)


def _table(*entries):
    rows = [
        {"rank": k, "id": name, "method": "random_search", "ev_per_fu": energy}
        for k, (name, _, energy) in enumerate(entries, 1)
    ]
    return RankedTable(pd.DataFrame(rows), tuple(s for _, s, _ in entries), (), {name: name for name, _, _ in entries})


def test_known_crystal_is_found_where_structure_and_energy_agree():
    alpha, other = reference_structure("alpha"), published_structure("S1-P21212").structure
    table = _table(("b", other, -18.2), ("a", alpha, -18.1))
    found = comparison.find_known(table, {"alpha": _relaxed(alpha, -18.101)})
    assert (found["alpha"].rank, found["alpha"].id, found["alpha"].found) == (2, "a", True)
    assert found["alpha"].rms == pytest.approx(0, abs=1e-6)
    far = comparison.find_known(table, {"alpha": _relaxed(alpha, -18.2)})
    assert not far["alpha"].found
    assert comparison.find_known(table, {"x": _relaxed(published_structure("S1-P21c").structure, -18.1)}) == {}


def test_a_crystal_counts_for_each_method_that_found_it():
    alpha, other = reference_structure("alpha"), published_structure("S1-P21212").structure
    table = _table(("b", other, -18.2), ("a", alpha, -18.1))
    table.groups["c"] = "a"  # the same crystal, found by the model too
    methods = {"a": "random_search", "b": "random_search", "c": "paper_guided_pushed"}
    relaxed = _relaxed(alpha, -18.101)
    for method in ("random_search", "paper"):
        assert find_by_method(table, methods, alpha, relaxed, method)["id"] == "a"
    assert find_by_method(table, methods, alpha, _relaxed(alpha, -18.3), "paper") is None  # energies differ
    assert find_by_method(table, methods, alpha, None, "paper")["id"] == "a"  # none to compare
    assert find_by_method(table, methods, other, None, "paper") is None


def test_levels_keep_the_lowest_rows_and_leave_gaps():
    frame = pd.DataFrame(
        {"group": ["Fddd", "Pc"], "start": [9.0, 8.0], "rigid": [float("nan"), 5.0], "end": [1.0, 2.0]},
        index=["aaaaaa", "bbbbbb"],
    )
    assert [list(level) for level in comparison.energy_levels(frame, 1).values()] == [
        ["Fddd (aaaaaa)"],
        [],
        ["Fddd (aaaaaa)"],
    ]


def test_published_frame_states_only_what_was_computed():
    item = published_structure("S1-P21212")
    frame = comparison.published_frame({item.key: _relaxed(item.structure, -18.1, 18)}, -18.2, {"alpha": 0.0})
    row = frame.loc[item.key]
    assert row.difference == pytest.approx(0, abs=1e-9)
    assert row.relaxed == pytest.approx(100)
    assert row.group == "P2_12_12"
    assert frame.dft.isna().all()
    assert frame.recomputed.notna().sum() == 1


def test_uniform_draws_fail_on_contacts_only():
    result = validity(uniform_draws(general_template(81), 20, 0))
    assert result.crystals == 20
    assert result.failed == {"contacts": 20, "fragments": 0, "symmetry": 0}
    assert result.passed[1.0] == 0
    assert result.share(0.7) == 5.0 * result.passed[0.7]


def test_validity_needs_crystals_and_limits(tmp_path):
    with pytest.raises(InputError, match="no crystals"):
        validity([])
    with pytest.raises(InputError, match="factor"):
        validity([], scales=())
    with pytest.raises(InputError, match="run search, train and sample first"):
        units_of(open_run(tmp_path / "run", "smoke", progress=False), "random_search")
    assert failed_checks([]) == {}

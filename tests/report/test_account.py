"""The account of Tables S1 and S2: complete, read from committed evidence, honest about gaps."""

from __future__ import annotations

import json

import pytest

from nanh2lib.cli.app import run
from nanh2lib.errors import InputError
from nanh2lib.records import RelaxationResult
from nanh2lib.report import account_tables
from nanh2lib.report.account import account_text, committed_account, found_words, known_crystals, was_found
from nanh2lib.report.book import project_root
from nanh2lib.report.evidence import EVIDENCE_FOLDER, read_evidence
from nanh2lib.report.numbers import NOT_PRINTED
from nanh2lib.report.reference_energies import committed_dft_energies

KEYS = {
    "table", "space_group", "z", "printed_cell", "relaxed", "gpaw_ev_per_fu", "gpaw_relaxed_ev_per_fu",
    "gpaw_mev_above_alpha", "found_by_search", "found_by_model",
}  # fmt: skip


def test_account_has_the_eight_and_alpha():
    rows = committed_account()
    assert [row["key"] for row in rows] == list(known_crystals())
    assert len(rows) == 9
    assert rows[-1]["key"] == "alpha"
    for row in rows:
        assert set(row) >= KEYS
        for entry in row["relaxed"].values():
            if "failure" in entry:  # said with its reason, and never a number
                assert entry["failure"]
                assert "ev_per_fu" not in entry
            else:
                assert {"cell", "ev_per_fu", "space_group"} <= set(entry)
        for who in ("found_by_search", "found_by_model"):
            if was_found(row[who]):
                assert {"id", "rms", "energy_difference_mev", "command"} <= set(row[who])


def test_account_agrees_with_its_sources():
    dft = committed_dft_energies().energies
    rows = {row["key"]: row for row in committed_account()}
    assert {key: row["gpaw_ev_per_fu"] for key, row in rows.items() if row["gpaw_ev_per_fu"] is not None} == dict(dft)
    assert rows["alpha"]["gpaw_mev_above_alpha"] == 0.0
    relaxed = read_evidence("relaxed")["rows"]
    for key, row in rows.items():
        for name, entry in row["relaxed"].items():
            assert entry.get("failure") == relaxed[key][name].get("failure")
            if "failure" in entry:
                continue
            assert entry["ev_per_fu"] == relaxed[key][name]["ev_per_fu"]
            if entry["mev_above_alpha"] is None:  # flagged: shown with its reason, not ranked
                assert set(entry["flags"]) & set(RelaxationResult.BAD_FLAGS)
                continue
            gap = 1e3 * (entry["ev_per_fu"] - relaxed["alpha"][name]["ev_per_fu"])
            assert entry["mev_above_alpha"] == pytest.approx(gap, abs=0.06)


def test_gaps_are_gaps(tmp_path):
    rows = committed_account(tmp_path)
    assert len(rows) == 9
    for row in rows:
        assert row["relaxed"] == {}
        assert row["gpaw_ev_per_fu"] is None
        assert row["kick"] is None
        assert row["found_by_search"] is None
    text = account_text(rows)
    assert "not tried" in text
    assert len([line for line in text.splitlines() if line.startswith(("S1", "S2", "alpha"))]) == 9


def test_damaged_evidence_is_an_error(tmp_path):
    path = tmp_path / EVIDENCE_FOLDER / "relaxed.json"
    path.parent.mkdir(parents=True)
    path.write_text("[1, 2")
    with pytest.raises(InputError, match=r"relaxed\.json"):
        committed_account(tmp_path)


def test_words():
    assert found_words(None) == "not tried"
    assert found_words({"found": True}) == "yes"
    assert found_words({"found": False, "relaxations": 7}) == "no, 7 tries"
    assert not was_found({"found": False})


def test_tables_keep_printed_and_recomputed_apart_and_name_their_source():
    rows = committed_account()
    table = account_tables.cells_table(rows, "sevennet-0")
    assert len(table.frame) == 9
    first = table.frame.iloc[0]
    assert first["printed a, b, c (Å)"] == "3.711, 4.710, 5.306"
    entry = rows[0]["relaxed"]["sevennet-0"]
    assert first["difference a, b, c (%)"].split(", ")[0] == f"{entry['lengths_change_percent'][0]:+.1f}"
    assert "relax --potential sevennet-0" in table.caption
    for other in (account_tables.changes_table(rows, "chgnet"), account_tables.heights_table(rows),
                  account_tables.found_table(rows), account_tables.groups_table(rows)):  # fmt: skip
        assert len(other.frame) == 9
        assert "ommitted evidence" in other.caption
    lowest = account_tables.heights_table(rows).frame.loc["α, Fddd (Z = 16)"]
    assert lowest["sevennet-0, relaxed"] == "0 (1)"


def test_tables_show_gaps(tmp_path):
    rows = committed_account(tmp_path)
    frame = account_tables.changes_table(rows, "chgnet").frame
    assert set(frame.iloc[0]) == {NOT_PRINTED}
    assert account_tables.height_levels(rows) == {}


def test_command_prints_the_account_without_a_run(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run(["reproduce", "tables", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert rows == json.loads(json.dumps(committed_account(project_root())))
    assert run(["reproduce", "tables"]) == 0
    assert "alpha Fddd" in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == []
    assert run(["reproduce", "rubbish"]) == 2

"""Energies of the published structures: relative to alpha, and the committed DFT file."""

from __future__ import annotations

import json

import pytest

from nanh2lib.errors import InputError
from nanh2lib.report.reference_energies import above, committed_dft_energies, reference_crystals, reference_energies
from tests.run_book import ROOT

COMMITTED = ROOT / "benchmarks" / "results" / "gpaw_published.json"


def test_reference_crystals_are_alpha_and_the_eight():
    crystals = reference_crystals()
    assert next(iter(crystals)) == "alpha"
    assert len(crystals) == 9


def test_committed_energies_are_those_of_the_tables():
    found = committed_dft_energies(COMMITTED)
    assert reference_energies("gpaw") == found.energies
    assert set(found.energies) <= set(reference_crystals())
    assert found.energies["S1-P21212"] == pytest.approx(-15.9623, abs=1e-3)
    assert found.energies["S1-P21212"] < found.energies["S1-P21c"] < found.energies["S1-Pcca"]


def test_settings_are_chosen_by_label_or_by_number(tmp_path):
    path = tmp_path / "gpaw.json"
    rows = {"alpha": {"a": {"ev_per_fu": -2.0}}, "S1-Pcca": {"a": {"ev_per_fu": -1.5}, "b": {"ev_per_fu": -3.0}}}
    path.write_text(json.dumps(rows))
    assert committed_dft_energies(path).label == "a"
    assert committed_dft_energies(path, "b").energies == {"S1-Pcca": -3.0}
    assert above(committed_dft_energies(path).energies) == {"alpha": 0.0, "S1-Pcca": 500.0}
    with pytest.raises(InputError, match="settings 'c'; there are: a, b"):
        committed_dft_energies(path, "c")
    path.write_text("[1]")
    with pytest.raises(InputError, match=r"gpaw\.json"):
        committed_dft_energies(path)


def test_a_missing_zero_is_named():
    with pytest.raises(InputError, match="no energy of 'alpha'"):
        above({"S1-Pcca": -1.0})

"""Energies of the published structures: relative to alpha, and the committed DFT file."""

from __future__ import annotations

import json

import pytest

from nanh2lib.errors import InputError
from nanh2lib.report.reference_energies import (
    above,
    committed_dft_energies,
    convergence_summary,
    convergence_table,
    reference_crystals,
    reference_energies,
)
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


def test_convergence_is_told_above_alpha_at_equal_settings(tmp_path):
    path = tmp_path / "convergence.json"
    assert convergence_table(path) == {}

    def row(cutoff, spacing, energy):
        return {"settings": {"cutoff": cutoff, "k_spacing": spacing}, "ev_per_fu": energy}

    rows = {
        "alpha": {"a": row(400, 0.4, -16.0), "b": row(500, 0.4, -17.0), "c": {"failure": "SCF", "settings": {}}},
        "S1-P21212": {"a": row(400, 0.4, -15.96), "d": row(600, 0.3, -18.0)},
    }
    path.write_text(json.dumps(rows))
    table = convergence_table(path)
    assert list(table) == ["400 eV, 0.4 per A", "500 eV, 0.4 per A", "600 eV, 0.3 per A"]
    assert table["400 eV, 0.4 per A"] == {"alpha, eV": -16.0, "S1-P21212": pytest.approx(40.0)}
    assert table["500 eV, 0.4 per A"]["S1-P21212"] is None
    assert table["600 eV, 0.3 per A"]["alpha, eV"] is None
    path.write_text("[1]")
    with pytest.raises(InputError, match=r"convergence\.json"):
        convergence_table(path)


def test_what_is_converged_is_said_for_the_lowest_and_the_highest_cutoff(tmp_path):
    path = tmp_path / "convergence.json"
    assert convergence_summary(path) == {}
    heights = {(400, 0.4): 30, (500, 0.4): 36.5, (600, 0.4): 37, (400, 0.3): 26, (600, 0.3): 36.8}

    def ladder(energies):
        return {
            f"{cutoff}-{spacing}": {"settings": {"cutoff": cutoff, "k_spacing": spacing}, "ev_per_fu": energy}
            for (cutoff, spacing), energy in energies.items()
        }

    rows = {"alpha": ladder(dict.fromkeys(heights, -16.0)), "new": ladder({(400, 0.4): -15.9})}
    rows["S1-P21212"] = ladder({where: -16.0 + height / 1000 for where, height in heights.items()})
    path.write_text(json.dumps(rows))
    found = convergence_summary(path)
    numbers = [value for value in found["S1-P21212"].values() if isinstance(value, float)]
    assert numbers == pytest.approx([30, 37, 0.5, -0.2])
    assert list(found["S1-P21212"].values())[-2:] == ["no", "yes"]
    assert list(found["new"].values())[-2:] == ["unknown", "unknown"]


def test_heights_of_the_small_crystals_are_not_converged_at_the_quoted_cutoff():
    found = convergence_summary()
    assert set(found) == {"S1-P21212", "S1-P21c", "S1-Pcca"}
    assert all(row["first converged"] == "no" and abs(row["finer mesh"]) < 0.5 for row in found.values())

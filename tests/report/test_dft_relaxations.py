"""Relaxations from first principles, read from a file of the form that the script writes."""

from __future__ import annotations

import json

import numpy as np
import pytest

from nanh2lib.errors import InputError
from nanh2lib.report.dft_relaxations import dft_relaxation_table, dft_relaxations, energy_volume_data
from nanh2lib.report.plots import energy_volume_curve
from tests.relaxation import crystals

LOWEST = 46.0


def row(unit, energy, curve=True):
    volumes = np.linspace(44.0, 48.0, 5)
    energies = energy + 0.002 * (volumes - LOWEST) ** 2 - 1e-4 * (volumes - LOWEST) ** 3
    found = {
        "asymmetric_unit": unit.to_dict(), "space_group": 70, "ev_per_fu": energy, "start_ev_per_fu": energy + 0.01,
        "evaluations": 12, "stopped": "converged", "fmax": 0.01, "max_stress_gpa": 0.05,
        "gpaw": {"cutoff": 600.0, "mesh": [4, 4, 4]}, "pulay": [{"correction_gpa": [-3.2, -3.1, -3.3, 0, 0, 0]}],
        "left_over_ev_per_fu": 1e-4,
    }  # fmt: skip
    return {**found, "curve": np.column_stack([volumes, energies]).tolist()} if curve else found


@pytest.fixture
def path(tmp_path):
    rows = {"S1-P21212": row(crystals.p21212(), -15.96, curve=False), "alpha": row(crystals.alpha(), -16.0)}
    (tmp_path / "relaxed.json").write_text(json.dumps(rows))
    return tmp_path / "relaxed.json"


def test_the_minimum_of_a_cubic_is_found(path):
    found = dft_relaxations(path)
    assert list(found) == ["alpha", "S1-P21212"]
    assert found["alpha"].curve_minimum == pytest.approx(LOWEST, abs=1e-6)
    assert np.isnan(found["S1-P21212"].curve_minimum)
    assert found["alpha"].volume == pytest.approx(47.3, abs=0.05)


def test_energies_above_alpha_as_printed_and_relaxed_stand_apart(path):
    table = dft_relaxation_table(path)
    assert table.loc["alpha", "meV above alpha, relaxed"] == 0
    assert table.loc["S1-P21212", "meV above alpha, relaxed"] == pytest.approx(40)
    assert table.loc["S1-P21212", "meV above alpha, printed"] == pytest.approx(30.2, abs=0.2)
    curves, ends = energy_volume_data(dft_relaxations(path))
    assert list(curves) == ["alpha"]
    assert ends["alpha"][1] == 0
    assert energy_volume_curve(curves, relaxed=ends).svg()


def test_a_file_that_is_missing_or_of_another_form(path):
    assert dft_relaxations(path.with_name("nothing.json")) == {}
    assert dft_relaxation_table(path.with_name("nothing.json")).empty
    assert energy_volume_data({}) == ({}, {})
    path.write_text('{"alpha": {"energy": 1}}')
    with pytest.raises(InputError, match="restore the committed file"):
        dft_relaxations(path)

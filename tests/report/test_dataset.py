"""Agreement of energies, and corrections judged on crystals they were not fitted to."""

from __future__ import annotations

import numpy as np
import pytest

from nanh2lib.crystal.space_group import setting_labels
from nanh2lib.errors import InputError
from nanh2lib.report.dataset import (
    agreement,
    agreement_by_frame,
    crystals_below,
    first_principles_account,
    linear_correction,
    setting_counts,
)
from nanh2lib.report.published import reference_structure
from nanh2lib.report.reference_energies import reference_energies
from nanh2lib.store.dataset import gpaw_energies, load_dataset


def test_a_constant_shift_is_no_error():
    reference = {"a": -20.0, "b": -19.5, "c": -19.0, "only here": 3.0}
    ours = {key: value + 2.0 for key, value in reference.items() if len(key) == 1}
    found = agreement("shifted", ours, reference)
    assert found.count == 3
    assert found.offset == pytest.approx(2.0)
    assert found.mean_absolute == pytest.approx(0.0, abs=1e-12)
    assert found.spearman == found.kendall == 1.0


def test_a_reversed_order_has_rank_correlation_minus_one():
    found = agreement("reversed", {"a": 1.0, "b": 2.0, "c": 3.0}, {"a": 3.0, "b": 2.0, "c": 1.0})
    assert found.spearman == found.kendall == -1.0
    assert found.mean_absolute == pytest.approx(4 / 3)


def test_two_crystals_are_too_few():
    with pytest.raises(InputError, match="2 crystals have both"):
        agreement("few", {"a": 1.0, "b": 2.0}, {"a": 1.0, "b": 2.0})


def test_a_true_slope_is_found_and_helps():
    energies = np.linspace(-20, -18, 9)
    found = linear_correction(energies, 1.5 * energies + 3)
    assert found.slope == pytest.approx(1.5)
    assert found.error_after < 1e-9 < found.error_before
    assert found.helps


def test_a_line_through_noise_does_not_help():
    generator = np.random.default_rng(3)
    energies = generator.normal(size=12)
    found = linear_correction(energies, energies + generator.normal(scale=0.5, size=12))
    assert not found.helps


def test_settings_that_share_a_symbol_are_told_apart():
    assert setting_labels([6, 7, 8]) == {6: "P2_1", 7: "P112_1", 8: "P2_111"}
    assert setting_labels([433, 434]) == {433: "R3 (Hall 433)", 434: "R3 (Hall 434)"}  # hexagonal and rhombohedral axes
    assert setting_labels([433]) == {433: "R3"}


def test_each_frame_has_a_shift_of_its_own():
    reference = {f"{i}/{frame}": -16.0 + 0.1 * i for i in range(3) for frame in ("raw", "relaxed")} | {
        "9/relaxed_fixed": -15
    }
    shifts = {"raw": 1.0, "relaxed": 2.0, "relaxed_fixed": 0.0}
    ours = {key: value + shifts[key.split("/")[1]] for key, value in reference.items()}
    found = agreement_by_frame("shifted", ours, reference)
    assert list(found) == ["all", "raw", "relaxed"]
    assert found["raw"].mean_absolute == pytest.approx(0, abs=1e-12)
    assert found["relaxed"].offset == pytest.approx(2.0)
    assert found["all"].count == 7
    assert found["all"].mean_absolute > 0.4


def test_every_first_principles_energy_is_counted_once():
    entries, reference = load_dataset(), gpaw_energies()
    table = first_principles_account(entries, reference)
    assert table["all settings"]["together"] == len(reference) >= 10
    per_setting = [row["together"] for label, row in table.items() if label != "all settings"]
    assert sum(per_setting) == len(reference)
    assert all(per_setting)
    assert table.keys() <= {*setting_counts(entries), "all settings"}


def test_what_lies_below_alpha_in_pbe_is_alpha_in_a_larger_cell():
    alpha, zero = reference_structure("alpha"), reference_energies("gpaw")["alpha"]
    rows = crystals_below(load_dataset(), gpaw_energies(), alpha, zero)
    assert [row["below"] for row in rows.values()] == pytest.approx([8.9, 8.3], abs=0.05)
    for name, row in rows.items():
        assert name.endswith("relaxed")
        assert row["space group"] == "Fddd"
        assert row["displacement"] < 0.05
        assert row["volume"] == pytest.approx(49.71, abs=0.01)
        assert row["setting"] == "F2dd"
    assert crystals_below(load_dataset(), gpaw_energies(), alpha, zero - 1) == {}

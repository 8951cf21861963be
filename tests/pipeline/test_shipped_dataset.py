"""The shipped dataset: what it must hold, and that its own command makes it again."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from nanh2lib.config import load_config
from nanh2lib.energy.labels import label_structures
from nanh2lib.ranking import DuplicateSettings, group_duplicates
from nanh2lib.search.random_search import random_search
from nanh2lib.settings import processor
from nanh2lib.store.dataset import data_directory, load_dataset, read_manifest


@pytest.fixture(scope="module")
def entries():
    return load_dataset()


@pytest.fixture(scope="module")
def one_of_each_setting(entries):
    """The earliest draw of each setting: twenty entries."""
    earliest = {}
    for entry in entries:
        hall = entry.asymmetric_unit.hall_number
        if hall not in earliest or entry.extra["draw"] < earliest[hall].extra["draw"]:
            earliest[hall] = entry
    assert len(earliest) == 20
    return earliest


def test_it_holds_what_the_data_card_says(entries):
    assert len(entries) == 1000
    assert all(len(entry.structure) == 64 for entry in entries)
    assert all(entry.structure.composition.reduced_formula == "NaH2N" for entry in entries)
    groups = Counter(entry.space_group_number for entry in entries)
    assert len(groups) == 19
    assert min(groups.values()) >= 30
    assert all(entry.accepted for entry in entries)
    assert all({"chgnet", "sevennet-0"} <= set(entry.energies) for entry in entries)


def test_relaxed_partners_are_there(entries):
    assert all(entry.relaxed_fixed is not None or "rigid_fixed:chgnet" in entry.failures for entry in entries)
    fixed = [entry.relaxed_fixed for entry in entries if entry.relaxed_fixed is not None]
    assert all(result.energy_final <= result.energy_start + 1e-6 for result in fixed)
    assert all(result.evaluations > 0 for result in fixed)
    account = read_manifest()["account"]
    assert account["relaxed_fixed"]["done"] == len(fixed)
    assert account["relaxed"]["done"] == sum(entry.relaxed is not None for entry in entries)


def test_it_is_small_enough_to_ship():
    assert (data_directory() / "dataset.xyz.gz").stat().st_size < 8_000_000


@pytest.mark.parametrize("group", [2, 14, 22, 70])
def test_no_two_entries_of_a_group_are_one_crystal(entries, group):
    """The groups where it is likeliest, twenty of each; all of them were compared when the set was made."""
    members = [entry.structure for entry in entries if entry.space_group_number == group][:20]
    rules = DuplicateSettings(same_space_group=False)
    assert group_duplicates(members, [0.0] * len(members), rules) == list(range(len(members)))


PARTS = ("lattice_parameters", "frac_origins", "rotations")


@pytest.fixture(scope="module")
def searched_again():
    """The search of profile full, far enough for the earliest entries, twice."""
    settings = load_config("full").search.model_copy(update={"per_setting": 8})
    return [{candidate.id: candidate for candidate in random_search(settings, progress=False)} for _ in range(2)]


def test_its_command_makes_the_same_crystals_again(one_of_each_setting, searched_again):
    """Twenty entries. Push-apart steps in float32, which other processors round in another order."""
    for entry in one_of_each_setting.values():
        other = searched_again[0][entry.id]
        assert other.asymmetric_unit.template == entry.asymmetric_unit.template
        for name in PARTS:
            one, two = getattr(entry.asymmetric_unit, name), getattr(other.asymmetric_unit, name)
            exact = read_manifest().get("processor") == processor()
            np.testing.assert_allclose(one, two, rtol=0, atol=0 if exact else 1e-4, err_msg=f"{entry.id} {name}")


def test_on_one_machine_the_same_seed_gives_the_same_bits(one_of_each_setting, searched_again):
    first, second = searched_again
    assert first.keys() == second.keys()
    for entry in one_of_each_setting.values():
        one, two = first[entry.id].asymmetric_unit, second[entry.id].asymmetric_unit
        assert all(getattr(one, name).equal(getattr(two, name)) for name in PARTS)


@pytest.mark.parametrize("potential", ["chgnet", "sevennet-0"])
def test_its_energies_come_out_again(one_of_each_setting, potential):
    crystals = {entry.id: entry.structure for entry in one_of_each_setting.values()}
    labels = label_structures(crystals, potential, progress=False)
    for entry in one_of_each_setting.values():
        assert labels[entry.id].energy_per_fu == pytest.approx(entry.energies[potential], abs=1e-4)

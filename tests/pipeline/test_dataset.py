"""Datasets: different crystals, labelled and relaxed once, written and read again."""

from __future__ import annotations

import json
from collections import Counter

import numpy as np
import pytest
import yaml

from nanh2lib.config import load_config
from nanh2lib.errors import ComputationError, InputError
from nanh2lib.pipeline.dataset import (
    choose_members,
    dataset_stage,
    export_dataset,
    first_principles_sample,
    members_of,
    spread_over_energies,
)
from nanh2lib.pipeline.geometric_data import relaxed_crystals
from nanh2lib.pipeline.refine import final_key
from nanh2lib.pipeline.run import open_run
from nanh2lib.ranking import DuplicateSettings, group_duplicates
from nanh2lib.settings import config_hash
from nanh2lib.store import CandidateStore
from nanh2lib.store.dataset import dataset_store, load_dataset, write_dataset

SHORT = {"potential": "chgnet", "rigid": {"cell": "fixed", "max_evaluations": 4}, "atoms": None}
TINY = {
    "search": {"space_groups": ["hall:213", "hall:335"], "max_draws_per_setting": 40},
    "dataset": {
        "per_setting": 3,
        "accepted_per_setting": 12,
        "potentials": ["chgnet"],
        "relaxed_fixed": SHORT,
        "relaxed": {
            "potential": "sevennet-0",
            "rigid": {"cell": "free", "max_evaluations": 2},
            "atoms": {"max_evaluations": 2},
        },
        "relaxed_per_setting": 1,
    },
}


def tiny_config(folder, **changes):
    path = folder / "tiny.yaml"
    path.write_text(yaml.safe_dump({**TINY, "dataset": {**TINY["dataset"], **changes}}))
    return load_config("smoke", path)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    opened = open_run(
        tmp_path_factory.mktemp("dataset"), tiny_config(tmp_path_factory.mktemp("config")), progress=False
    )
    dataset_stage(opened)
    return opened


@pytest.fixture(scope="module")
def file(run, tmp_path_factory):
    target = tmp_path_factory.mktemp("export") / "dataset.xyz.gz"
    export_dataset(run, target)
    return target


def test_equal_shares_of_different_crystals(run):
    entries = members_of(run)
    assert Counter(entry.asymmetric_unit.hall_number for entry in entries) == {213: 3, 335: 3}
    assert [entry.asymmetric_unit.hall_number for entry in entries[:2]] == [213, 335], "settings take turns"
    owner = group_duplicates([e.structure for e in entries], [0.0] * 6, DuplicateSettings())
    assert owner == list(range(6))


def test_every_entry_is_labelled_and_relaxed_in_the_fixed_cell(run):
    entries = members_of(run)
    assert all(-25 < entry.energies["chgnet"] < 0 for entry in entries)
    assert all(entry.relaxed_fixed.energy_final < entry.energies["chgnet"] for entry in entries)
    for entry in entries:
        np.testing.assert_allclose(entry.relaxed_fixed.structure.lattice.matrix, entry.structure.lattice.matrix)


def test_the_full_relaxation_starts_from_the_fixed_one_and_frees_the_cell(run):
    relaxed = [entry for entry in members_of(run) if entry.relaxed is not None]
    assert {entry.asymmetric_unit.hall_number for entry in relaxed} == {213, 335}
    assert all(entry.relaxed.potential == "sevennet-0" for entry in relaxed)
    assert all(abs(entry.relaxed.structure.volume - entry.structure.volume) > 1e-3 for entry in relaxed)


def test_a_second_call_computes_nothing(run, monkeypatch):
    import nanh2lib.pipeline.labels as labels
    import nanh2lib.pipeline.refine as refine

    def refuse(*args, **kwargs):
        raise AssertionError("work was repeated")

    monkeypatch.setattr(labels, "label_structures", refuse)
    monkeypatch.setattr(refine, "relax_many", refuse)
    dataset_stage(run)


def without_full_relaxation(run, folder, file, change):
    """The run again, one full relaxation taken out and its record changed; and that record."""
    other = open_run(folder / "other", run.config, progress=False)
    other.store.import_extxyz(file)
    key = final_key(run.config.dataset.relaxed)
    records = list(other.store.records())
    record = next(r for r in records if key in r["relaxations"])
    del record["relaxations"][key], record["versions"][key]
    change(record)
    (folder / "other" / "candidates.db").unlink()
    write_dataset(records, folder / "without.xyz.gz", {})
    other.store.import_extxyz(folder / "without.xyz.gz")
    return other, record


def test_a_failed_full_relaxation_is_replaced_by_its_neighbour(run, tmp_path, file):
    """The failure stays on record; another entry of the setting takes its place."""
    other, failing = without_full_relaxation(run, tmp_path, file, lambda record: None)
    key, version = final_key(run.config.dataset.relaxed), config_hash(run.config.dataset.relaxed)
    other.store.set_failure(failing["id"], key, "exploded", version=version)
    account = dataset_stage(other)
    assert account["relaxed"]["done"] == 2
    assert list(account["failures"].values()) == [1]
    assert failing["id"] not in {e.id for e in members_of(other) if e.relaxed is not None}


def test_fused_molecules_are_counted_and_neither_learned_from_nor_relaxed_further(run, tmp_path, file):
    """They keep their place in the order of energies, so that who else is chosen does not depend on them."""

    def fuse(record):
        record["relaxations"][final_key(run.config.dataset.relaxed_fixed)]["flags"] = ["broken_fragment"]

    other, fused = without_full_relaxation(run, tmp_path, file, fuse)
    account = dataset_stage(other)
    assert account["relaxed_fixed"]["flags"] == {"broken_fragment": 1}
    assert account["relaxed_fixed"]["usable"] == 5
    assert account["relaxed"]["done"] == 2
    entries = members_of(other)
    assert fused["id"] not in {e.id for e in entries if e.relaxed is not None}
    assert {e.id for e in spread_over_energies(entries, 1)} == {e.id for e in spread_over_energies(members_of(run), 1)}
    assert len(relaxed_crystals(entries)) == 5
    assert fused["id"] not in {crystal.id for crystal in relaxed_crystals(entries)}


def test_what_is_shipped_is_what_was_made(run, file):
    for made, read in zip(members_of(run), load_dataset(file), strict=True):
        assert made.id == read.id
        assert made.energies == read.energies
        assert made.asymmetric_unit.to_dict() == read.asymmetric_unit.to_dict()
        np.testing.assert_allclose(made.structure.frac_coords, read.structure.frac_coords, atol=1e-11)
        assert made.relaxed_fixed.energy_final == read.relaxed_fixed.energy_final
        assert (made.relaxed is None) == (read.relaxed is None)
        assert read.extra["evaluations"]["rigid_fixed:chgnet"] == made.relaxed_fixed.evaluations


def test_other_tools_read_the_file(file):
    from ase.io import read

    frames = read(file, index=":", format="extxyz")
    assert len(frames) == 6 + 6 + 2
    assert all(len(frame) == 64 for frame in frames)


def test_a_build_goes_on_from_a_file(run, file, tmp_path, monkeypatch):
    """What the file holds counts as done in a new run of the same settings."""
    import nanh2lib.pipeline.labels as labels
    import nanh2lib.pipeline.refine as refine

    def refuse(*args, **kwargs):
        raise AssertionError("work was repeated")

    other = open_run(tmp_path / "other", run.config, progress=False)
    assert other.store.import_extxyz(file) == 6
    monkeypatch.setattr(labels, "label_structures", refuse)
    monkeypatch.setattr(refine, "relax_many", refuse)
    dataset_stage(other)
    assert [e.id for e in members_of(other)] == [e.id for e in members_of(run)]


def test_a_changed_file_is_refused(file, tmp_path):
    copy = tmp_path / file.name
    copy.write_bytes(file.read_bytes()[:-1] + b"x")
    (tmp_path / "dataset.json").write_bytes(file.with_name("dataset.json").read_bytes())
    with pytest.raises(InputError, match="SHA-256"):
        load_dataset(copy)


def test_gpaw_energies_stand_beside_the_others(file, tmp_path):
    copy = tmp_path / file.name
    copy.write_bytes(file.read_bytes())
    first = load_dataset(file)[0]
    rows = {"a": {"id": first.id, "frame": "raw", "ev_per_fu": -20.5}}
    (tmp_path / "dataset_gpaw.json").write_text(json.dumps({"rows": rows}))
    read = load_dataset(copy)
    assert read[0].energies["gpaw"] == -20.5
    assert "gpaw" not in read[1].energies


def test_the_store_is_made_on_first_use(file, tmp_path):
    dataset_store(tmp_path / "store.db", file)
    again = dataset_store(tmp_path / "store.db", file)
    assert isinstance(again, CandidateStore)
    assert len(again) == 6


def test_too_few_different_crystals_are_an_error(tmp_path):
    run = open_run(tmp_path / "run", tiny_config(tmp_path, per_setting=12, accepted_per_setting=12), progress=False)
    with pytest.raises(ComputationError, match=r"Hall 335 has .* different crystals among 12"):
        choose_members(run)


def test_exporting_before_building_is_an_error(tmp_path):
    run = open_run(tmp_path / "run", tiny_config(tmp_path), progress=False)
    with pytest.raises(ComputationError, match="no dataset there yet"):
        export_dataset(run, tmp_path / "dataset.xyz.gz")


def test_full_relaxations_are_spread_over_energies(run):
    entries = members_of(run)
    two = spread_over_energies(entries, 2)
    for hall in (213, 335):
        every = sorted(e.relaxed_fixed.energy_final for e in entries if e.asymmetric_unit.hall_number == hall)
        chosen = {e.relaxed_fixed.energy_final for e in two if e.asymmetric_unit.hall_number == hall}
        assert chosen == {every[0], every[-1]}


def test_the_first_principles_sample_mixes_frames_and_starts_with_small_cells(run):
    sample = first_principles_sample(members_of(run))
    assert len(sample) == 2, "one entry of each setting is fully relaxed"
    assert {frame for _, frame in sample} <= {"raw", "relaxed_fixed", "relaxed"}
    assert len({frame for _, frame in sample}) == 2

"""The stages on a tiny run: every arrow of the pipeline is real, repeated calls repeat nothing, kills lose nothing."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from nanh2lib.cli.app import run as nanh2
from nanh2lib.config import load_config
from nanh2lib.pipeline.labels import label_stage
from nanh2lib.pipeline.model import draw, sample_stage, train, training_set
from nanh2lib.pipeline.refine import final_key, rank_stage, ranked_table, relax_stage
from nanh2lib.pipeline.run import Run, open_run
from nanh2lib.pipeline.search import candidates_of, search_stage

TINY = {
    "search": {"space_groups": ["hall:213", "hall:335"], "per_setting": 3, "max_draws_per_setting": 30},
    "training": {"epochs": 4, "timesteps": 12, "batch_size": 4},
    "sampling": {"count": 4},
    "selection": {"per_method": 1, "published_max_atoms": 0},
    "relaxation": {"rigid": {"cell": "fixed", "max_evaluations": 3}, "atoms": {"max_evaluations": 3}},
}


@pytest.fixture(scope="module")
def config_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("config") / "tiny.yaml"
    path.write_text(yaml.safe_dump(TINY))
    return path


@pytest.fixture(scope="module")
def tiny_run(tmp_path_factory: pytest.TempPathFactory, config_file: Path) -> Run:
    run = open_run(tmp_path_factory.mktemp("runs") / "tiny", load_config("smoke", config_file), progress=False)
    for stage in (search_stage, label_stage, train, sample_stage, relax_stage, rank_stage):
        stage(run)
    return run


def test_search_gives_equal_shares(tiny_run):
    summary = search_stage(tiny_run)
    assert summary["space_groups"] == {"F2dd": 3, "Fddd": 3}


def test_every_accepted_candidate_is_labelled(tiny_run):
    accepted = [c for c in candidates_of(tiny_run, "random_search") if c.accepted]
    assert len(accepted) == 6
    assert all(-25 < c.energies["chgnet"] < 0 for c in accepted)


def test_rejected_candidates_stay_with_their_reason(tiny_run):
    rejected = [c for c in candidates_of(tiny_run) if not c.accepted]
    assert rejected
    assert all(c.report is not None and c.report.reason for c in rejected)


def test_training_set_is_encoded_canonically(tiny_run):
    data = training_set(tiny_run)
    assert len(data) == 6
    assert data.z.shape == data.mask.shape
    assert not data.z[~data.mask].any()


def test_what_scheme_paper_cannot_hold_is_counted(tiny_run):
    """Fddd has Na and NH2 on different axes; those of F2dd with both on the axis can be written."""
    training = tiny_run.config.training.model_copy(update={"scheme": "paper"})
    paper = dataclasses.replace(tiny_run, config=tiny_run.config.model_copy(update={"training": training}))
    accepted = [c for c in candidates_of(tiny_run, "random_search") if c.accepted]
    data = training_set(paper)
    assert len(data) + sum(data.refused.values()) == len(accepted)
    assert data.refused["Na and NH2 on different sites"] >= 3
    assert {template.hall_number for template in data.templates} == {213}


def test_guided_and_unguided_samples_start_from_the_same_noise(tiny_run):
    guided, again, unguided = (draw(tiny_run, guided=g) for g in (True, True, False))
    assert (guided.z == again.z).all()
    assert (guided.z != unguided.z).any()
    assert (guided.template_index == unguided.template_index).all()


def test_relaxation_lowers_the_energy_and_keeps_the_group(tiny_run):
    key = final_key(tiny_run.config.relaxation)
    relaxed = [c for c in candidates_of(tiny_run) if key in c.relaxations]
    assert relaxed
    for candidate in relaxed:
        assert candidate.relaxations[key].energy_final <= candidate.energies["chgnet"] + 1e-4


def test_ranking_accounts_for_every_relaxed_candidate(tiny_run):
    key = final_key(tiny_run.config.relaxation)
    table = ranked_table(tiny_run)
    relaxed = {c.id for c in candidates_of(tiny_run) if key in c.relaxations or key in c.failures}
    assert set(table.groups) | {identity for identity, _ in table.left_out} == relaxed
    assert (tiny_run.directory / "tables" / "best.md").read_text().startswith("### Rank 1")


def test_a_second_pass_repeats_nothing(tiny_run):
    store = tiny_run.store
    before = store.ids()
    assert label_stage(tiny_run)["new"] == 0
    assert relax_stage(tiny_run)["new"] == 0
    for stage in (search_stage, train, sample_stage, rank_stage):
        assert stage(tiny_run) == stage(tiny_run)
    assert store.ids() == before


def test_a_killed_search_goes_on_and_ends_the_same(tmp_path, config_file, capsys):
    settings = {**TINY, "search": {**TINY["search"], "per_setting": 12, "max_draws_per_setting": 60}}
    config = tmp_path / "more.yaml"
    config.write_text(yaml.safe_dump(settings))
    command = ["search", "--profile", "smoke", "--config", str(config), "-q", "--json"]
    killed = subprocess.Popen(
        [sys.executable, "-m", "nanh2lib.cli", *command, "--run", str(tmp_path / "killed")],
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    )
    database = tmp_path / "killed" / "candidates.db"
    for _ in range(600):
        if database.exists() or killed.poll() is not None:
            break
        time.sleep(0.05)
    time.sleep(0.5)
    os.killpg(killed.pid, signal.SIGKILL)
    killed.wait()
    results = []
    for name in ("killed", "whole"):
        assert nanh2([*command, "--run", str(tmp_path / name)]) == 0
        results.append(json.loads(capsys.readouterr().out))
    ids = [sorted(open_run(tmp_path / name, load_config("smoke", config)).store.ids()) for name in ("killed", "whole")]
    assert ids[0] == ids[1]
    assert results[0]["space_groups"] == results[1]["space_groups"]

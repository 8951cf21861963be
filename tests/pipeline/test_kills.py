"""Stages killed with SIGKILL in the middle of their work: run again they lose nothing and repeat nothing."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml

import nanh2lib.pipeline.labels
import nanh2lib.pipeline.model
import nanh2lib.pipeline.refine
from nanh2lib.config import load_config
from nanh2lib.pipeline.labels import label_stage
from nanh2lib.pipeline.model import sample_stage, train
from nanh2lib.pipeline.refine import final_key, relax_stage
from nanh2lib.pipeline.run import Run, open_run
from nanh2lib.pipeline.search import candidates_of, search_stage

SETTINGS = {
    # Three templates or more; every unit of work takes a tenth of a second or longer.
    "search": {"space_groups": ["hall:213", "hall:335", "hall:81"], "per_setting": 5, "max_draws_per_setting": 60},
    "training": {"epochs": 4000, "timesteps": 12, "batch_size": 4, "checkpoint_every": 5},
    "sampling": {"count": 24},
    "selection": {"methods": ["random_search"], "per_method": 8, "published_max_atoms": 0},
    "relaxation": {"rigid": {"cell": "fixed", "max_evaluations": 12}, "atoms": None},
}


def open_here(folder: Path, epochs: int = 4000) -> Run:
    path = folder.with_suffix(".yaml")
    path.write_text(yaml.safe_dump({**SETTINGS, "training": {**SETTINGS["training"], "epochs": epochs}}))
    return open_run(folder, load_config("smoke", path), progress=False)


@pytest.fixture(scope="module")
def labelled(tmp_path_factory) -> Path:
    run = open_here(tmp_path_factory.mktemp("base") / "run")
    search_stage(run)
    label_stage(run)
    return run.directory


def copied(source: Path, target: Path) -> Path:
    shutil.copytree(source, target)
    shutil.copy(source.with_suffix(".yaml"), target.with_suffix(".yaml"))
    return target


def kill_in_the_middle(stage: str, folder: Path, under_way: Callable[[], bool]) -> None:
    """Start a stage as a user does, wait until it has kept something, and kill it with all its processes."""
    config = ["--profile", "smoke", "--config", str(folder.with_suffix(".yaml")), "-q"]
    command = [sys.executable, "-m", "nanh2lib.cli", stage, "--run", str(folder), *config]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, start_new_session=True)
    deadline = time.monotonic() + 240
    while not under_way() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, f"{stage} was over before it could be killed"


def spied(monkeypatch, module, name: str, counts: list[int], argument: int = 0) -> None:
    """Count the pieces of work that a function of a stage is asked for."""
    original = getattr(module, name)

    def counting(*args, **kwargs):
        counts.append(len(args[argument]))
        return original(*args, **kwargs)

    monkeypatch.setattr(module, name, counting)


def test_labels(labelled, tmp_path, monkeypatch):
    run = open_here(tmp_path / "killed")
    search_stage(run)
    wanted = run.config.label.potential_hash
    kill_in_the_middle("label", run.directory, lambda: len(run.store.labels_at(wanted)) >= 2)
    kept = run.store.labels_at(wanted)
    assert 2 <= len(kept) < 15
    asked: list[int] = []
    spied(monkeypatch, nanh2lib.pipeline.labels, "label_structures", asked)
    summary = label_stage(run)
    assert asked == [15 - len(kept)] == [summary["new"]]
    whole = {c.id: c.energies["chgnet"] for c in candidates_of(open_here(labelled)) if c.accepted}
    assert {c.id: c.energies["chgnet"] for c in candidates_of(run) if c.accepted} == pytest.approx(whole, abs=1e-5)
    assert {identity: run.store.labels_at(wanted)[identity] for identity in kept} == kept
    assert label_stage(run)["new"] == 0


def test_relaxations(labelled, tmp_path, monkeypatch):
    run = open_here(copied(labelled, tmp_path / "killed"))
    key = final_key(run.config.relaxation)

    def done() -> dict[str, float]:
        return {c.id: c.relaxations[key].energy_final for c in candidates_of(run) if key in c.relaxations}

    kill_in_the_middle("relax", run.directory, lambda: len(done()) >= 1)
    kept = done()
    assert 1 <= len(kept) < 8
    asked: list[int] = []
    spied(monkeypatch, nanh2lib.pipeline.refine, "relax_many", asked)
    assert relax_stage(run)["new"] == 8 - len(kept)
    assert asked == [8 - len(kept)]
    found = done()
    assert len(found) == 8
    assert {identity: found[identity] for identity in kept} == kept
    assert relax_stage(run)["new"] == 0


def test_training_and_sampling(labelled, tmp_path, monkeypatch):
    """A killed training ends with the same weights; killed sampling with the same crystals."""
    folder = copied(labelled, tmp_path / "killed")
    state = folder / "models" / "noise_run"
    kill_in_the_middle("train", folder, lambda: any(state.glob("*.json")))
    assert not (folder / "models" / "paper.json").exists()
    # As many epochs as were done, and a few more: the end of the long run need not be waited for.
    epochs = 60 + epochs_done(state)
    (folder / "config.json").unlink()
    run = open_here(folder, epochs)
    train(run)
    other = copied(labelled, tmp_path / "other")
    (other / "config.json").unlink()
    whole = open_here(other, epochs)
    train(whole)
    assert weights(run) == weights(whole)

    count = len(run.store.ids())
    kill_in_the_middle("sample", folder, lambda: len(run.store.ids()) > count)
    kept = len(run.store.ids()) - count
    asked: list[int] = []
    spied(monkeypatch, nanh2lib.pipeline.model, "push_apart", asked)
    summary = sample_stage(run)
    assert 2 * sum(asked) + kept == len(run.store.ids()) - count, "each sample is kept twice, raw and pushed apart"
    monkeypatch.undo()
    expected = sample_stage(whole)
    for name in ("guided", "unguided"):
        assert summary[name] == expected[name]
    for one, two in zip(by_id(run), by_id(whole), strict=True):
        assert one.id == two.id
        assert np.allclose(one.structure.frac_coords, two.structure.frac_coords, atol=1e-9)


def epochs_done(state: Path) -> int:
    (path,) = state.glob("*.json")
    return len(json.loads(path.read_text())["payload"]["history"]["loss"])


def weights(run: Run) -> bytes:
    (path,) = (run.directory / "models").glob("paper*.safetensors")
    return path.read_bytes()


def by_id(run: Run) -> list:
    return sorted(candidates_of(run), key=lambda candidate: candidate.id)

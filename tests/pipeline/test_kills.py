"""Stages killed with SIGKILL in the middle of their work: run again they lose nothing and repeat nothing."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

import nanh2lib.diffusion.fit
import nanh2lib.pipeline.labels
import nanh2lib.pipeline.model
import nanh2lib.pipeline.refine
from nanh2lib.config import load_config
from nanh2lib.pipeline.labels import label_stage
from nanh2lib.pipeline.model import sample_stage, train
from nanh2lib.pipeline.refine import final_key, relax_stage
from nanh2lib.pipeline.run import Run, open_run
from nanh2lib.pipeline.search import candidates_of, search_stage

EPOCHS, EVERY = 40, 5
SETTINGS: dict[str, Any] = {
    "search": {"space_groups": ["hall:213", "hall:335"], "per_setting": 4, "max_draws_per_setting": 40},
    "training": {"epochs": EPOCHS, "timesteps": 12, "batch_size": 4, "checkpoint_every": EVERY},
    "sampling": {"count": 16},
    "selection": {"methods": ["random_search"], "per_method": 4, "published_max_atoms": 0},
    "relaxation": {"rigid": {"cell": "fixed", "max_evaluations": 4}, "atoms": None},
}
CRYSTALS = 8

# The command line, killed as it returns from a chosen function for the n-th time.
DOOMED = """
import os, signal, sys
from importlib import import_module
from nanh2lib.cli.app import main
module, owner, name, times, *arguments = sys.argv[1:]
place = getattr(import_module(module), owner)
original, left = getattr(place, name), [int(times)]
def doomed(*args, **kwargs):
    value = original(*args, **kwargs)
    left[0] -= 1
    if not left[0]:
        os.kill(os.getpid(), signal.SIGKILL)
    return value
setattr(place, name, doomed)
main(arguments)
"""
STORE = ("nanh2lib.store.candidate_store", "CandidateStore")
STATE = ("nanh2lib.diffusion.run_state", "RunState")


def open_here(folder: Path) -> Run:
    path = folder.with_suffix(".yaml")
    path.write_text(yaml.safe_dump(SETTINGS))
    return open_run(folder, load_config("smoke", path), progress=False)


@pytest.fixture(scope="module")
def labelled(tmp_path_factory) -> Path:
    run = open_here(tmp_path_factory.mktemp("base") / "run")
    search_stage(run)
    label_stage(run)
    return run.directory


def copied(source: Path, target: Path) -> Run:
    shutil.copytree(source, target)
    return open_here(target)


def kill(stage: str, run: Run, place: tuple[str, str], name: str, times: int) -> None:
    """Start a stage as a user does; it dies right after the n-th call of what keeps its results."""
    config = ["--profile", "smoke", "--config", str(run.directory.with_suffix(".yaml")), "-q"]
    serial = ["--executor", "serial"] if stage in ("label", "relax") else []
    arguments = [*place, name, str(times), stage, "--run", str(run.directory), *config, *serial]
    done = subprocess.run([sys.executable, "-c", DOOMED, *arguments], stdout=subprocess.DEVNULL, check=False)
    assert done.returncode == -signal.SIGKILL, f"{stage} was over before it was killed"


def spy(monkeypatch, module, name: str) -> list[int]:
    """Sizes of the pieces of work that a function is asked for, as they come."""
    original, sizes = getattr(module, name), []

    def counting(*args, **kwargs):
        sizes.append(len(args[0]) if hasattr(args[0], "__len__") else 1)
        return original(*args, **kwargs)

    monkeypatch.setattr(module, name, counting)
    return sizes


def test_labels(labelled, tmp_path, monkeypatch):
    run = open_here(tmp_path / "killed")
    search_stage(run)
    kill("label", run, STORE, "set_energy", 3)
    kept = run.store.labels_at(run.config.label.potential_hash)
    assert len(kept) == 3
    asked = spy(monkeypatch, nanh2lib.pipeline.labels, "label_structures")
    assert label_stage(run)["new"] == CRYSTALS - 3
    assert asked == [CRYSTALS - 3]
    found = run.store.labels_at(run.config.label.potential_hash)
    assert {identity: found[identity] for identity in kept} == kept
    whole = {c.id: c.energies["chgnet"] for c in candidates_of(open_here(labelled)) if c.accepted}
    assert {identity: label.value for identity, label in found.items()} == pytest.approx(whole, abs=1e-5)
    assert label_stage(run)["new"] == 0


def test_relaxations(labelled, tmp_path, monkeypatch):
    run = copied(labelled, tmp_path / "killed")
    key = final_key(run.config.relaxation)

    def done() -> dict[str, float]:
        return {c.id: c.relaxations[key].energy_final for c in candidates_of(run) if key in c.relaxations}

    kill("relax", run, STORE, "set_relaxation", 2)
    kept = done()
    assert len(kept) == 2
    asked = spy(monkeypatch, nanh2lib.pipeline.refine, "relax_many")
    assert relax_stage(run)["new"] == 2
    assert asked == [2]
    found = done()
    assert len(found) == 4
    assert {identity: found[identity] for identity in kept} == kept
    assert relax_stage(run)["new"] == 0


def test_training_and_sampling(labelled, tmp_path, monkeypatch):
    """Killed training ends with the same weights, killed sampling with the same crystals."""
    run, whole = copied(labelled, tmp_path / "killed"), copied(labelled, tmp_path / "whole")
    kill("train", run, STATE, "save", 3)
    assert not (run.directory / "models" / "paper.json").exists()
    epochs = spy(monkeypatch, nanh2lib.diffusion.fit, "_epoch")
    train(run)
    assert len(epochs) == 2 * EPOCHS - 3 * EVERY, "two networks, less what the killed run had kept"
    train(whole)
    assert weights(run) == weights(whole)

    count = len(run.store.ids())
    kill("sample", run, STORE, "add", 1)
    kept = len(run.store.ids()) - count
    assert kept > 0
    pushed = spy(monkeypatch, nanh2lib.pipeline.model, "push_apart")
    summary = sample_stage(run)
    assert 2 * sum(pushed) + kept == len(run.store.ids()) - count, "each sample is kept twice, raw and pushed apart"
    expected = sample_stage(whole)
    assert all(summary[name] == expected[name] for name in ("guided", "unguided"))
    for one, two in zip(by_id(run), by_id(whole), strict=True):
        assert one.id == two.id
        assert np.allclose(one.structure.frac_coords, two.structure.frac_coords, atol=1e-9)


def weights(run: Run) -> bytes:
    (path,) = (run.directory / "models").glob("paper*.safetensors")
    return path.read_bytes()


def by_id(run: Run) -> list[Any]:
    return sorted(candidates_of(run), key=lambda candidate: candidate.id)

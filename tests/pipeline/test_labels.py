"""Labels of a run: one for each candidate and potential with its options, failures kept and tried again on request."""

from __future__ import annotations

import dataclasses
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest

from nanh2lib.config import load_config
from nanh2lib.energy.labels import LabelSettings
from nanh2lib.errors import ComputationError, MissingDependencyError
from nanh2lib.execution import SerialExecutor
from nanh2lib.pipeline.labels import energies_of, label_stage
from nanh2lib.pipeline.run import Run, open_run
from nanh2lib.store import Label
from tests.store.conftest import make_candidates

POTENTIAL = "tests.gated_calculator:GatedCalculator"
NAN = "tests.cli.nan_calculator:make"


def labelled_by(run: Run, **options: Any) -> Run:
    """The same run with another potential in its configuration."""
    settings = LabelSettings(potential=options.pop("potential", POTENTIAL), options=options)
    return dataclasses.replace(run, config=run.config.model_copy(update={"label": settings}))


@pytest.fixture
def run(tmp_path: Path) -> Run:
    opened = open_run(tmp_path / "run", load_config("smoke"), progress=False)
    opened.store.add(make_candidates(3))
    opened.store.add(make_candidates(2, accepted=False, prefix="r"))
    return opened


def test_other_options_of_a_potential_make_other_labels(run, tmp_path):
    first = labelled_by(run, log=str(tmp_path / "a.log"))
    second = labelled_by(run, log=str(tmp_path / "b.log"))
    assert label_stage(first)["new"] == 3
    assert label_stage(first)["new"] == 0
    assert label_stage(second)["new"] == 3
    assert all((tmp_path / name).read_text().count("\n") == 3 for name in ("a.log", "b.log"))
    for candidate in run.store.candidates(accepted=True):
        hashes = [label.potential_hash for label in run.store.labels(candidate.id)]
        assert hashes == [first.config.label.potential_hash, second.config.label.potential_hash]
    assert set(run.store.labels_at(first.config.label.potential_hash)) == {"c0000", "c0001", "c0002"}
    assert run.store.labels_at(first.config.label.potential_hash, accepted=False) == {}


def test_an_energy_without_a_hash_does_not_count(run, tmp_path):
    bare = dataclasses.replace(make_candidates(1, prefix="e")[0], energies={POTENTIAL: -1.0})
    run.store.add(bare)
    energies = energies_of(labelled_by(run, log=str(tmp_path / "log")), [run.store.get(bare.id)], POTENTIAL)
    assert energies[bare.id] < -5


def test_failures_are_data_until_they_are_asked_for_again(run):
    broken = labelled_by(run, potential=NAN)
    for new in (3, 0):
        summary = label_stage(broken)
        assert (summary["new"], summary["labelled"], summary["failed"]) == (new, 0, 3)
    assert all("not finite" in reason for reason in summary["reasons"])
    name = broken.config.label.potential_hash
    run.store.set_energy("c0001", NAN, name, -18.0)
    again = label_stage(broken, retry_failures=True)
    assert (again["labelled"], again["failed"]) == (1, 2)
    assert run.store.labels_at(name)["c0001"] == Label(NAN, name, -18.0)


def test_a_worker_with_another_version_of_the_potential_is_refused(run, tmp_path):
    class OtherVersion(SerialExecutor):
        def submit(self, fn, /, *args, **kwargs):
            found = super().submit(fn, *args, **kwargs).result()
            future: Future[Any] = Future()
            future.set_result(dataclasses.replace(found, potential_hash="of another version"))
            return future

    with pytest.raises(ComputationError, match="install the same packages on all machines"):
        label_stage(labelled_by(run, log=str(tmp_path / "log")), executor=OtherVersion())
    assert all(run.store.labels(identity) == () for identity in run.store.ids())


def test_a_potential_that_is_missing_leaves_no_failures_behind(run, monkeypatch):
    monkeypatch.setattr("nanh2lib.energy.potentials.find_spec", lambda name: None)
    with pytest.raises(MissingDependencyError, match="chgnet, which is not installed"):
        label_stage(run, executor=SerialExecutor())
    assert all(run.store.labels(identity) == () for identity in run.store.ids())

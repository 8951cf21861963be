"""Labels and relaxations on a real Dask cluster and a real PostgreSQL: killed workers and drivers lose nothing."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from nanh2lib.cli.app import run as nanh2
from nanh2lib.config import load_config
from nanh2lib.execution import make_executor
from nanh2lib.pipeline.labels import label_stage
from nanh2lib.pipeline.refine import final_key
from nanh2lib.pipeline.run import Run, open_run
from tests.run_book import ROOT
from tests.servers import DaskCluster
from tests.store.conftest import make_candidates
from tests.system import require_module

pytestmark = [pytest.mark.scale, pytest.mark.slow, pytest.mark.xdist_group("scaling")]

COUNT = 12
HELD_AT = 6
"""The evaluation that waits for the gate: with two workers it and the next one hang, five are done."""


@dataclass
class Job:
    """A run whose potential writes its evaluations down and can be held up."""

    run: Run
    config: Path
    log: Path
    gate: Path

    def command(self, what: str, cluster: DaskCluster, *more: str) -> list[str]:
        options = ["--run", str(self.run.directory), "--profile", "smoke", "--config", str(self.config), "-q", "--json"]
        return [what, *options, "--executor", f"dask://{cluster.address}", *more]

    @property
    def labels(self) -> dict[str, float | None]:
        found = self.run.store.labels_at(self.run.config.label.potential_hash)
        return {identity: label.value for identity, label in found.items()}

    def evaluations(self) -> list[float]:
        return [round(float(line), 9) for line in self.log.read_text().splitlines()] if self.log.exists() else []

    def times_evaluated(self) -> dict[str, int]:
        """How often each labelled candidate was evaluated; the log holds energies per atom, four to a formula unit."""
        counts = Counter(self.evaluations())
        return {identity: counts[round(value / 4, 9)] for identity, value in self.labels.items() if value is not None}


def wait_until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + 240
    while not condition():
        assert time.monotonic() < deadline, f"waited four minutes until {what}"
        time.sleep(0.05)


@pytest.fixture
def job(url: str, tmp_path: Path) -> Job:
    log, gate = tmp_path / "evaluations.log", tmp_path / "gate"
    gate.touch()
    potential = {
        "potential": "tests.gated_calculator:GatedCalculator",
        "options": {"log": str(log), "gate": str(gate), "hold_at": HELD_AT},
    }
    settings = {
        "store": url,
        "label": potential,
        "relaxation": {**potential, "rigid": {"cell": "fixed"}, "atoms": None},
        "selection": {"methods": ["random_search"], "per_method": 2},
    }
    config = tmp_path / "scaling.yaml"
    config.write_text(yaml.safe_dump(settings))
    run = open_run(tmp_path / "run", load_config("smoke", config), progress=False)
    run.store.add(make_candidates(COUNT))
    return Job(run, config, log, gate)


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return str(tmp_path / "store.db")
    return str(request.getfixturevalue("postgresql_url"))


@pytest.fixture
def driver(job: Job, dask_cluster: DaskCluster) -> Iterator[subprocess.Popen[str]]:
    """``nanh2 label`` in a process of its own."""
    process = subprocess.Popen(
        [sys.executable, "-m", "nanh2lib.cli", *job.command("label", dask_cluster)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    yield process
    process.kill()
    process.communicate()


def test_a_killed_driver_loses_nothing_and_its_rerun_repeats_nothing(job, driver, dask_cluster, capsys):
    wait_until(
        lambda: driver.poll() is not None or len(job.labels) == HELD_AT - 1, "the labels before the gate are stored"
    )
    wait_until(lambda: driver.poll() is not None or len(job.evaluations()) == HELD_AT + 1, "both workers are held up")
    assert driver.poll() is None, driver.stderr.read()
    driver.send_signal(signal.SIGKILL)
    driver.wait()
    kept = job.labels
    job.gate.unlink()

    assert nanh2(job.command("label", dask_cluster)) == 0
    summary = json.loads(capsys.readouterr().out)
    assert (summary["new"], summary["labelled"], summary["failed"]) == (COUNT - len(kept), COUNT, 0)
    store = job.run.store
    assert all(len(store.labels(identity)) == 1 for identity in store.ids())
    assert {identity: job.labels[identity] for identity in kept} == kept
    times = job.times_evaluated()
    assert {times[identity] for identity in kept} == {1}
    assert max(times.values()) <= 2  # what was in flight may have been computed again, once

    before = job.evaluations()
    assert nanh2(job.command("label", dask_cluster)) == 0
    assert json.loads(capsys.readouterr().out)["new"] == 0
    assert job.evaluations() == before


@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
def test_relaxations_run_on_the_cluster_too_and_are_not_repeated(job, dask_cluster, capsys):
    job.gate.unlink()
    for new in (2, 0):
        assert nanh2(job.command("relax", dask_cluster)) == 0
        summary = json.loads(capsys.readouterr().out)
        assert (summary["selected"], summary["new"], summary["failed"]) == (2, new, 0)
    key = final_key(job.run.config.relaxation)
    assert sum(key in candidate.relaxations for candidate in job.run.store.candidates()) == 2


def test_a_worker_killed_in_mid_run_costs_no_label(job, dask_cluster):
    lost = dask_cluster.refill()[0]

    def kill_and_open() -> None:
        try:
            wait_until(lambda: len(job.evaluations()) == HELD_AT + 1, "both workers are held up")
            lost.kill()
            lost.wait()
        finally:
            job.gate.unlink()  # or the labels below would wait for ever

    killer = threading.Thread(target=kill_and_open)
    killer.start()
    with make_executor(f"dask://{dask_cluster.address}") as executor:
        summary = label_stage(job.run, executor=executor)
    killer.join()
    assert (summary["new"], summary["labelled"], summary["failed"]) == (COUNT, COUNT, 0)
    store = job.run.store
    assert all(len(store.labels(identity)) == 1 for identity in store.ids())
    # What died with its worker ran again: the label in flight, and one that was done but not yet handed over.
    assert len(job.evaluations()) in (COUNT + 1, COUNT + 2)


SBATCH = """#!/bin/sh
# Stands in for SLURM: starts the job script here, as a group of processes of its own.
cp "$1" {folder}/job.sh
setsid sh {folder}/job.sh > {folder}/job.log 2>&1 &
echo $! > {folder}/job.pid
echo "Submitted batch job 1"
"""
NANH2 = """#!{python}
import os, sys
from nanh2lib.execution import WorkUnit, make_executor, run_units
with make_executor(sys.argv[-2]) as executor:
    results = run_units(divmod, [WorkUnit("a", (7, 4))], executor, progress=False)
open("{folder}/called.txt", "a").write(" ".join(sys.argv[1:-2]) + " " + str(results[0].value) + "\\n")
"""
CHANGES = {
    "cores=16": "cores=1",
    "processes=16": "processes=1",
    "48GB": "2GB",
    '"ib0"': '"lo"',
    "minimum_jobs=4, maximum_jobs=4": "minimum_jobs=1, maximum_jobs=1",
}


@pytest.fixture
def slurm(tmp_path: Path) -> Iterator[dict[str, str]]:
    """Environment in which sbatch runs jobs on this machine, and nanh2 only tells how it was called."""
    require_module("dask_jobqueue", "scale")
    programs = tmp_path / "bin"
    programs.mkdir()
    words = {"folder": tmp_path, "python": sys.executable}
    for name, text in {"sbatch": SBATCH, "scancel": "#!/bin/sh\n", "nanh2": NANH2}.items():
        (programs / name).write_text(text.format(**words))
        (programs / name).chmod(0o755)
    yield {**os.environ, "PYTHONPATH": str(ROOT), "PATH": f"{programs}:{os.environ['PATH']}"}
    with contextlib.suppress(ProcessLookupError, FileNotFoundError):
        os.killpg(int((tmp_path / "job.pid").read_text()), signal.SIGKILL)


@pytest.mark.skipif(sys.platform != "linux", reason="names the loopback interface of Linux, and uses setsid")
def test_the_example_for_slurm_runs_with_a_stand_in_for_sbatch(tmp_path, slurm):
    page = (ROOT / "book" / "scaling.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"^```python\n(.*?)^```$", page, re.M | re.S)
    for there, here in CHANGES.items():
        assert there in example
        example = example.replace(there, here)
    (tmp_path / "scale.py").write_text(example)
    done = subprocess.run(
        [sys.executable, "scale.py"], cwd=tmp_path, env=slurm, capture_output=True, text=True, timeout=240, check=False
    )
    assert done.returncode == 0, done.stderr
    calls = (tmp_path / "called.txt").read_text().splitlines()
    assert calls == [f"{stage} --run runs/amide --profile full --executor (1, 3)" for stage in ("label", "relax")]
    job = (tmp_path / "job.sh").read_text()
    assert "#SBATCH -p standard" in job
    assert "--nthreads 1 " in job
    assert "--lifetime 230m" in job

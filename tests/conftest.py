"""Fixtures that several parts of the tests share."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from tests.run_book import PROFILE, ROOT, SEED, SmokeRun, smoke_run
from tests.servers import DaskCluster, new_database, running_postgresql


def turn(item: pytest.Item) -> int:
    """When a test runs: the smoke run and what looks at it, slow tests, all others, and last what needs the built book.

    Workers are then busy to the end: one makes the run and the book while the others do the rest, and what is left of
    the pages is shared. Keeps its meaning with ``--dist loadgroup --no-loadscope-reorder`` (see the Makefile).
    """
    group = item.get_closest_marker("xdist_group")
    name = group.args[0] if group else ""
    if name.startswith("pages"):
        return 3
    return 0 if name == "book" else 1 if item.get_closest_marker("slow") else 2


RUN_SECONDS = 2400
"""Limit of a test that may have to make, or wait for, the smoke run and the book; others have pyproject.toml's."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=turn)
    for item in items:
        if {"smoke", "book"} & set(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.timeout(RUN_SECONDS))


def pytest_collection_finish(session: pytest.Session) -> None:
    """Workers that don't know the groups would each make the smoke run and the book: stop instead."""
    if not session.config.getoption("loadgroup", False):
        return
    lost = [item.nodeid for item in session.items if item.get_closest_marker("xdist_group") and "@" not in item.nodeid]
    if lost:
        raise pytest.UsageError(f"{lost[0]}: this pytest loses the groups of pytest-xdist; see pyproject.toml")


def once(name: str, work: Callable[[], Any]) -> Any:
    """Result (a JSON value) of work that one process of this test run does and the others wait for.

    A fixture of scope session is made once in *each* worker; two runs into one folder would spoil each other.
    """
    run = os.environ.get("PYTEST_XDIST_TESTRUNUID", f"process {os.getpid()}")
    record = ROOT / "_build" / f"test-{name}.json"
    record.parent.mkdir(exist_ok=True)
    with FileLock(f"{record}.lock"):
        if record.exists():
            found = json.loads(record.read_text(encoding="utf-8"))
            if found["run"] == run:
                return found["value"]
        value = work()
        record.write_text(json.dumps({"run": run, "value": value}), encoding="utf-8")
        return value


def _smoke_record() -> list[Any]:
    run = smoke_run()
    return [str(run.results), run.status, run.output]


@pytest.fixture(scope="session")
def smoke() -> SmokeRun:
    """One run of the pipeline and all notebooks in profile smoke."""
    results, status, output = once("smoke", _smoke_record)
    run = SmokeRun(Path(results), status, output)
    assert run.status == 0, f"nanh2 reproduce --profile {PROFILE} failed:\n{run.output[-4000:]}"
    return run


@pytest.fixture(scope="session")
def book(smoke: SmokeRun) -> Path:
    """The pages, built strictly from the executed notebooks of `smoke`."""
    from nanh2lib.report.book import build_book

    def build() -> str:
        return str(build_book(smoke.notebooks, ROOT / "_build" / "test-run" / "html", PROFILE, SEED).parent)

    return Path(once("book", build))


@pytest.fixture(scope="session")
def postgresql_server() -> Iterator[str]:
    """URL of a PostgreSQL server that runs as long as the tests."""
    with running_postgresql() as url:
        yield url


@pytest.fixture
def postgresql_url(postgresql_server: str, request: pytest.FixtureRequest) -> str:
    """URL of a fresh, empty database."""
    return new_database(postgresql_server, f"store_{abs(hash(request.node.nodeid))}")


@pytest.fixture(scope="module")
def dask_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DaskCluster]:
    """A scheduler with two worker processes."""
    cluster = DaskCluster(tmp_path_factory.mktemp("dask"))
    try:
        yield cluster
    finally:
        cluster.stop()

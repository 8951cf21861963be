"""Servers that tests start for real on this machine: a Dask cluster and PostgreSQL, both without a network."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.run_book import ROOT
from tests.system import require_module, require_system


def python(*arguments: str) -> subprocess.Popen[str]:
    """Another Python that finds the package and the tests; its stderr can be read."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        [sys.executable, *arguments],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


class DaskCluster:
    """A scheduler and worker processes of one thread each on the loopback interface.

    Attributes
    ----------
    address : str
        ``"HOST:PORT"`` of the scheduler.
    workers : list of Popen
    """

    def __init__(self, folder: Path, workers: int = 2) -> None:
        require_module("distributed", "scale")
        self.folder = folder
        command = ("-m", "distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard")
        self.scheduler = python(*command)
        assert self.scheduler.stderr is not None
        line = next((line for line in self.scheduler.stderr if "Scheduler at:" in line), None)
        if line is None:
            pytest.fail("the Dask scheduler did not start")
        self.address = line.split()[-1].removeprefix("tcp://")
        self._drain(self.scheduler)
        self.workers: list[subprocess.Popen[str]] = []
        for _ in range(workers):
            self.add_worker()

    def _drain(self, process: subprocess.Popen[str]) -> None:
        assert process.stderr is not None
        threading.Thread(target=process.stderr.read, daemon=True).start()

    def add_worker(self) -> None:
        folder = self.folder / f"worker{len(self.workers)}"
        command = ("-m", "distributed.cli.dask_worker", f"tcp://{self.address}", "--nthreads", "1", "--no-dashboard")
        self.workers.append(python(*command, "--no-nanny", "--local-directory", str(folder)))
        self._drain(self.workers[-1])

    def refill(self, workers: int = 2) -> list[subprocess.Popen[str]]:
        """Start workers in the place of dead ones; those that live."""
        while len(living := [worker for worker in self.workers if worker.poll() is None]) < workers:
            self.add_worker()
        return living

    def stop(self) -> None:
        for process in (*self.workers, self.scheduler):
            process.kill()
            process.wait(30)


@contextmanager
def running_postgresql() -> Iterator[str]:
    """URL of a PostgreSQL server of our own that listens on a socket in a temporary folder."""
    require_module("psycopg2", "scale")
    binaries = Path(os.path.realpath(require_system("postgresql"))).parent
    if not (binaries / "initdb").exists():
        binaries = sorted(Path("/usr/lib/postgresql").glob("*/bin"))[-1]
    as_user = {"user": "postgres"} if os.geteuid() == 0 else {}  # the server refuses to run as root
    with tempfile.TemporaryDirectory(dir="/tmp", ignore_cleanup_errors=True) as folder:
        os.chmod(folder, 0o777)
        data = f"{folder}/data"
        options = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "cwd": folder, **as_user}
        subprocess.run([binaries / "initdb", "-D", data, "-U", "tester", "--auth=trust"], check=True, **options)
        command = [binaries / "postgres", "-D", data, "-k", folder, "-c", "listen_addresses=", "-c", "fsync=off"]
        server = subprocess.Popen(command, **options)
        try:
            yield _answering(f"postgresql://tester@/postgres?host={folder}")
        finally:
            server.send_signal(signal.SIGQUIT)  # at once; the data are thrown away
            server.wait(30)


def _answering(url: str) -> str:
    import psycopg2

    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            psycopg2.connect(url).close()
        except psycopg2.OperationalError:
            time.sleep(0.1)
        else:
            return url
    pytest.fail("PostgreSQL did not start")


def new_database(server: str, name: str) -> str:
    """URL of a fresh, empty database."""
    import psycopg2

    connection = psycopg2.connect(server)
    connection.autocommit = True
    connection.cursor().execute(f"CREATE DATABASE {name}")
    connection.close()
    return server.replace("/postgres?", f"/{name}?")

"""A whole run, kernels and workers included, reaches no other machine; and the guard that says so does see."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.run_book import offline
from tests.test_notebooks import NAMES

ATTEMPTS = {
    "192.0.2.1": "socket.create_connection(('192.0.2.1', 80), 1)",
    "name.example": "socket.gethostbyname('name.example')",
    "page.example": "urllib.request.urlopen('http://page.example', timeout=1)",
    "192.0.2.2": "socket.socket(type=socket.SOCK_DGRAM).sendto(b'.', ('192.0.2.2', 53))",
    "child.example": "subprocess.run([sys.executable, '-c', 'import socket; socket.gethostbyname(\"child.example\")'])",
}
AT_HOME = "socket.create_connection(socket.create_server(('127.0.0.1', 0)).getsockname(), 1)"


def lines_of(statements: list[str], log) -> list[str]:
    code = ["import contextlib, socket, subprocess, sys, urllib.request"]
    code += [f"with contextlib.suppress(OSError): {statement}" for statement in statements]
    subprocess.run(
        [sys.executable, "-c", "\n".join(code)], env=offline(log), check=True, capture_output=True, timeout=60
    )
    return log.read_text(encoding="utf-8").splitlines()


def test_the_guard_refuses_and_notes_what_would_leave_the_machine(tmp_path):
    refused = [line for line in lines_of(list(ATTEMPTS.values()), tmp_path / "log") if line.startswith("refused")]
    assert [line.split()[2] for line in refused] == list(ATTEMPTS)


def test_the_guard_lets_this_machine_be_reached(tmp_path):
    (line,) = lines_of([AT_HOME], tmp_path / "log")
    assert line.startswith("watched")


@pytest.mark.slow
@pytest.mark.xdist_group("book")
def test_pipeline_and_notebooks_reach_no_other_machine(smoke):
    if os.environ.get("NANH2_TEST_RUN"):
        pytest.skip("NANH2_TEST_RUN: a finished run, nobody watched it")
    lines = smoke.network_log.read_text(encoding="utf-8").splitlines()
    assert sum(line.startswith("watched") for line in lines) > len(NAMES), "the command and a kernel for each notebook"
    assert [line for line in lines if line.startswith("refused")] == []

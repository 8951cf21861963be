"""The Makefile, run for real with programs that write down how they are called instead of doing it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.run_book import ROOT
from tests.system import require_system

TORCH = "torch==2.13.0"
CPU_INDEX = "https://download.pytorch.org/whl/cpu"


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """Makefile and dependency files beside an environment whose programs only keep a log."""
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path / name)
    (tmp_path / "benchmarks").mkdir()
    (tmp_path / "benchmarks" / "bench_small.py").touch()
    for name in ("python", "nanh2", "ruff", "mypy", "lint-imports"):
        program(
            tmp_path / ".venv" / "bin" / name,
            f'echo "{name} $*" >> log; case "{name} $*" in ${{FAIL:-none}}) exit 1;; esac',
        )
    return tmp_path


def program(path: Path, body: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)


def make(
    checkout: Path, *arguments: str, system: str = "Linux", fail: str = "none", ci: str = ""
) -> tuple[int, str, list[str]]:
    """Exit status, output and the calls that were made."""
    program(checkout / "path" / "uname", f"echo {system}")
    path = f"{checkout / 'path'}{os.pathsep}{os.environ['PATH']}"
    environment = {"PATH": path, "FAIL": fail, "CI": ci, "HOME": str(checkout)}
    done = subprocess.run(
        [require_system("make"), *arguments], cwd=checkout, env=environment, capture_output=True, text=True, check=False
    )
    log = checkout / "log"
    calls = log.read_text().splitlines() if log.exists() else []
    log.unlink(missing_ok=True)
    return done.returncode, done.stdout + done.stderr, calls


def installs(calls: list[str]) -> list[str]:
    return [call.split("install ", 1)[1] for call in calls if " install " in call]


def test_on_linux_torch_comes_from_the_cpu_index_in_a_step_of_its_own(checkout):
    status, _, calls = make(checkout, "setup")
    assert status == 0
    (tools, torch, rest) = installs(calls)
    assert "pip" in tools
    assert CPU_INDEX in torch
    assert torch.endswith(TORCH)
    assert rest == "--quiet -c constraints.txt -e .[all]"
    assert make(checkout, "setup")[2] == [], "a second call has nothing to do"


def test_without_the_cpu_index_the_plain_one_is_taken_and_said(checkout):
    status, output, calls = make(checkout, "setup", fail="*download.pytorch.org*")
    assert status == 0
    assert "out of reach, taking the plain index" in output
    assert installs(calls)[2] == f"--quiet {TORCH}"


def test_on_macos_the_plain_index_is_the_only_one(checkout):
    status, _, calls = make(checkout, "setup", system="Darwin")
    assert status == 0
    assert not any(CPU_INDEX in call for call in calls)
    assert installs(calls)[1] == f"--quiet {TORCH}"


def test_another_torch_may_be_asked_for(checkout):
    assert "torch==2.13.0+cu126" in installs(make(checkout, "setup", "TORCH=2.13.0+cu126")[2])[1]


def test_gpaw_is_installed_on_request_and_in_ci_only(checkout):
    assert not any(".[dft]" in call for call in make(checkout, "setup")[2])
    assert [c for c in installs(make(checkout, "setup", "DFT=1")[2]) if ".[dft]" in c]
    (checkout / ".venv" / ".installed-dft").unlink()
    assert [c for c in installs(make(checkout, "setup", ci="true")[2]) if ".[dft]" in c]


def test_a_failed_installation_stops_and_is_tried_again(checkout):
    assert make(checkout, "reproduce", fail="*.?all?*")[0] != 0
    calls = make(checkout, "setup")[2]
    assert installs(calls)[-1].endswith(".[all]")


def test_without_a_python_that_is_new_enough_the_way_out_is_said(checkout):
    (checkout / ".venv" / "bin" / "python").unlink()
    for name in ("python3.11", "python3.12", "python3.13", "python3", "python"):
        program(checkout / "path" / name, "exit 1")
    status, output, _ = make(checkout, "setup")
    assert status != 0
    assert "no Python 3.11 or newer" in output
    assert "PYTHON=/path/to/python" in output


def test_reproduce_runs_everything_builds_the_book_and_says_where(checkout):
    status, output, calls = make(checkout, "reproduce", "PROFILE=smoke", "SEED=3")
    assert status == 0
    ours = [call for call in calls if call.startswith("nanh2")]
    assert [call.split()[1] for call in ours] == ["reproduce", "book"]
    assert all(call.endswith("--profile smoke --seed 3") for call in ours)
    assert f"{checkout}/_build/html/index.html" in output
    assert f"{checkout}/results/smoke/tables" in output


def test_reproduce_stops_at_the_first_failure(checkout):
    status, output, calls = make(checkout, "reproduce", fail="nanh2?reproduce*")
    assert status != 0
    assert [call for call in calls if call.startswith("nanh2")] == ["nanh2 reproduce --profile default --seed 0"]
    assert "index.html" not in output


def test_test_runs_all_checks_even_when_one_fails_and_then_fails(checkout):
    status, _, calls = make(checkout, "test")
    assert status == 0
    assert [c.split()[0] for c in calls if not c.startswith("python")] == ["ruff", "ruff", "mypy", "lint-imports"]
    assert "pytest" in calls[-1]
    assert "--dist loadgroup --no-loadscope-reorder" in calls[-1], "the order of tests/conftest.py counts"
    status, _, calls = make(checkout, "test", fail="mypy*")
    assert status != 0
    assert "pytest" in calls[-1]
    assert make(checkout, "test", fail="*pytest*")[0] != 0


def test_bench_runs_every_script(checkout):
    assert "python -m benchmarks.bench_small" in make(checkout, "bench")[2]


@pytest.mark.parametrize("script", sorted((ROOT / "benchmarks").glob("bench_*.py")), ids=lambda path: path.stem)
def test_each_benchmark_runs_without_arguments(script):
    """As `make bench` calls it: options only, none of them required."""
    text = script.read_text(encoding="utf-8")
    assert "required=True" not in text
    assert all(name.startswith("-") for name in re.findall(r"""add_argument\(\s*["']([^"']+)""", text))
    assert 'if __name__ == "__main__"' in text


@pytest.mark.parametrize("installed", [True, False])
def test_ci_installs_what_a_bare_machine_lacks_and_then_runs_make_test(tmp_path, installed):
    (tmp_path / ".ci").mkdir()
    shutil.copy(ROOT / ".ci" / "run", tmp_path / ".ci" / "run")
    folder, log = tmp_path / "path", tmp_path / "log"
    program(folder / "dpkg-query", "echo ii" if installed else "exit 1")
    program(folder / "id", "echo 0")
    for name in ("apt-get", "make"):
        program(folder / name, f'echo "{name} $* CI=$CI" >> {log}')
    environment = {"PATH": f"{folder}{os.pathsep}{os.environ['PATH']}", "HOME": str(tmp_path)}
    subprocess.run(["bash", str(tmp_path / ".ci" / "run")], env=environment, capture_output=True, check=True)
    calls = log.read_text().splitlines()
    assert calls[-1] == "make test CI=true"
    assert len(calls) == (1 if installed else 3)
    if not installed:
        assert all(word in calls[1] for word in ("install", "libxc-dev", "libopenblas-dev", "chromium"))

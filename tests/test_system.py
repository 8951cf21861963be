"""What a machine lacks skips a test with its reason; in CI it fails the test."""

from __future__ import annotations

import pytest

from tests import system


@pytest.fixture
def bare_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(system.shutil, "which", lambda *args, **kwargs: None)


@pytest.mark.parametrize("package", sorted(system.PROGRAMS))
@pytest.mark.parametrize(("ci", "outcome"), [("", pytest.skip.Exception), ("true", pytest.fail.Exception)])
def test_a_missing_system_package(bare_machine, monkeypatch, package, ci, outcome):
    monkeypatch.setenv("CI", ci)
    with pytest.raises(outcome, match=f"{package} is not installed on this machine"):
        system.require_system(package)


@pytest.mark.parametrize(("ci", "outcome"), [("", pytest.skip.Exception), ("1", pytest.fail.Exception)])
def test_a_missing_extra(monkeypatch, ci, outcome):
    monkeypatch.setenv("CI", ci)
    with pytest.raises(outcome, match=r"pip install 'nanh2lib\[dft\]'"):
        system.require_module("no_such_module", "dft")


def test_what_is_there_is_found():
    assert system.require_system("make").endswith("make")
    system.require_module("json", "dft")

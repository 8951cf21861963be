"""What a machine must offer beyond the Python environment; asked for by name in the tests."""

from __future__ import annotations

import os
import shutil

import pytest

PROGRAMS = {
    "chromium": ("chromium", "chromium-browser", "google-chrome"),
    "postgresql": ("pg_ctl", "pg_ctlcluster", "postgres"),
    "make": ("make",),
}
"""System package by name, and the programs of which one must be on the path."""


def require_system(package: str, reason: str = "") -> str:
    """Path of a program of the system package; without it skip the test, or fail it in CI."""
    for program in PROGRAMS[package]:
        path = shutil.which(program) or shutil.which(program, path="/usr/lib/postgresql/15/bin")
        if path:
            return path
    return missing(f"{package} is not installed on this machine{f' ({reason})' if reason else ''}")


def require_module(name: str, extra: str) -> None:
    """The optional Python package; without it skip the test, or fail it in CI."""
    import importlib.util

    if importlib.util.find_spec(name) is None:
        missing(f"{name} is not installed; pip install 'nanh2lib[{extra}]'")


def missing(reason: str) -> str:
    if os.environ.get("CI", "").lower() in ("1", "true"):
        pytest.fail(f"{reason}; in CI this is a failure, not a skip", pytrace=False)
    pytest.skip(reason)

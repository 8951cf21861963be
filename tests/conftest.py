"""Fixtures that several parts of the tests share."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.run_book import PROFILE, ROOT, SEED, SmokeRun, smoke_run


@pytest.fixture(scope="session")
def smoke() -> SmokeRun:
    """One run of the pipeline and all notebooks in profile smoke."""
    run = smoke_run()
    assert run.status == 0, f"nanh2 reproduce --profile {PROFILE} failed:\n{run.output[-4000:]}"
    return run


@pytest.fixture(scope="session")
def book(smoke) -> Path:
    """The pages, built strictly from the executed notebooks of `smoke`."""
    from nanh2lib.report.book import build_book

    return build_book(smoke.notebooks, ROOT / "_build" / "test-run" / "html", PROFILE, SEED).parent

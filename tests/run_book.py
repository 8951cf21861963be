"""The run that the notebook and page tests look at: profile smoke, seed 0, inside the checkout's build folder."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PROFILE, SEED = "smoke", 0


@dataclass(frozen=True)
class SmokeRun:
    """Exit status and output of ``nanh2 reproduce``, and the folder it wrote."""

    results: Path
    status: int
    output: str

    @property
    def notebooks(self) -> Path:
        return self.results / "notebooks"

    @property
    def network_log(self) -> Path:
        """What the network guard of `offline` saw in the run and in all processes that it started."""
        return self.results.with_name(f"{self.results.name}-network.log")


def offline(log: Path) -> dict[str, str]:
    """Environment in which Python processes reach this machine only; ``log`` gets what they tried (tests/offline)."""
    paths = [str(ROOT / "tests" / "offline"), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "NANH2_NETWORK_LOG": str(log)}


def smoke_run() -> SmokeRun:
    """Run the pipeline and the notebooks as the command line does, cut off the network.

    In the checkout, so that relative paths hold and a failing notebook stays where it can be opened. Set
    ``NANH2_TEST_RUN`` to a finished run to look at that one instead.
    """
    given = os.environ.get("NANH2_TEST_RUN")
    if given:
        return SmokeRun(Path(given).resolve(), 0, "")
    results = ROOT / "_build" / "test-run" / PROFILE
    shutil.rmtree(results, ignore_errors=True)
    log = SmokeRun(results, 0, "").network_log
    log.parent.mkdir(parents=True, exist_ok=True)
    log.unlink(missing_ok=True)
    command = [sys.executable, "-m", "nanh2lib.cli", "reproduce", "--profile", PROFILE, "--seed", str(SEED)]
    done = subprocess.run(
        [*command, "--run", str(results)],
        cwd=ROOT,
        env=offline(log),
        capture_output=True,
        text=True,
        timeout=1500,
        check=False,
    )
    return SmokeRun(results, done.returncode, done.stdout + done.stderr)

"""Space group of a crystal through spglib, with a time limit, compared with the assigned one."""

from __future__ import annotations

import atexit
import json
import select
import subprocess
import sys
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pymatgen.core import Structure

from nanh2lib.crystal.space_group import SpaceGroup

Verdict = Literal["same", "gained", "lost", "failed"]
TRANSLATION_TOLERANCE = 0.02
WORKER_FILE = Path(__file__).with_name("symmetry_worker.py")
"""Run as a file, so that the process imports spglib and nothing of this package."""


@dataclass(frozen=True)
class SymmetryFinding:
    """What spglib says of a crystal.

    Attributes
    ----------
    verdict : {"same", "gained", "lost", "failed"}
        Against the assigned group: the same number; a group that contains all assigned
        operations and more; anything else; no answer.
    number : int or None
        International number found.
    symbol : str
    detail : str
        Why there is no answer.
    """

    verdict: Verdict
    number: int | None
    symbol: str
    detail: str = ""


class SymmetryWorker:
    """spglib in a process of its own, ended and replaced when an answer takes too long.

    Parameters
    ----------
    timeout : float
        Seconds for one crystal.
    """

    def __init__(self, timeout: float = 10.0) -> None:
        self.timeout = timeout
        self._process: subprocess.Popen[str] | None = None

    def close(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            for stream in (self._process.stdin, self._process.stdout):
                if stream is not None:
                    stream.close()
            self._process = None

    def ask(self, request: dict[str, Any]) -> dict[str, Any] | str | None:
        """spglib's answer, None where it finds nothing, or a text that says why there is no answer."""
        process = self._running()
        if process.stdin is None or process.stdout is None:
            return "the symmetry process has no pipes"
        try:
            process.stdin.write(json.dumps(request) + "\n")
            process.stdin.flush()
            ready, _, _ = select.select([process.stdout], [], [], self.timeout)
            line = process.stdout.readline() if ready else ""
        except (BrokenPipeError, ValueError) as error:
            self.close()
            return f"the symmetry process died ({type(error).__name__})"
        if not ready:
            self.close()
            return f"spglib gave no answer within {self.timeout} s"
        if not line:
            self.close()
            return "the symmetry process died"
        result: dict[str, Any] | None = json.loads(line)
        return result

    def _running(self) -> subprocess.Popen[str]:
        if self._process is None or self._process.poll() is not None:
            self.close()
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-W", "ignore", str(WORKER_FILE)],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
            )  # fmt: skip
        return self._process


@lru_cache(maxsize=4)
def _worker(timeout: float) -> SymmetryWorker:
    worker = SymmetryWorker(timeout)
    atexit.register(worker.close)
    return worker


def find_symmetry(
    structures: Iterable[Structure],
    expected: SpaceGroup | int | None,
    symprec: float = 1e-2,
    timeout: float = 10.0,
) -> Iterator[SymmetryFinding]:
    """Compare the space group of crystals with the one they were made in.

    Parameters
    ----------
    structures : iterable of Structure
    expected : SpaceGroup, int or None
        The assigned group (with it ``"gained"`` is judged operation by operation), its
        international number only, or None: whatever is found is the ``"same"``.
    symprec : float
        A.
    timeout : float
        Seconds for one crystal.

    Yields
    ------
    SymmetryFinding
        In the order given. spglib returning nothing, running out of time or dying is ``"failed"``.
    """
    worker = _worker(timeout)
    number = expected.number if isinstance(expected, SpaceGroup) else expected
    for structure in structures:
        frac = np.asarray(structure.frac_coords)
        if not (np.isfinite(frac).all() and np.isfinite(structure.lattice.matrix).all()):
            yield SymmetryFinding("failed", None, "", "coordinates or cell are not finite")
            continue
        request = {
            "lattice": structure.lattice.matrix.tolist(),
            "frac_coords": frac.tolist(),
            "numbers": list(structure.atomic_numbers),
            "symprec": symprec,
            "expected": number,
        }
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = worker.ask(request)
        yield _judge(found, expected, number, symprec)


def _judge(
    found: dict[str, Any] | str | None, expected: SpaceGroup | int | None, number: int | None, symprec: float
) -> SymmetryFinding:
    if isinstance(found, str):
        return SymmetryFinding("failed", None, "", found)
    if found is None:
        return SymmetryFinding("failed", None, "", f"spglib finds no symmetry at symprec {symprec} A")
    got, symbol = int(found["number"]), str(found["symbol"])
    if number is None or got == number:
        return SymmetryFinding("same", got, symbol)
    if isinstance(expected, SpaceGroup) and _contains(found, expected):
        return SymmetryFinding("gained", got, symbol)
    return SymmetryFinding("lost", got, symbol)


def _contains(found: dict[str, Any], group: SpaceGroup) -> bool:
    """All operations of the group are among those found (same cell and origin)."""
    rotations, translations = np.array(found["rotations"]), np.array(found["translations"])
    if len(rotations) <= group.order:
        return False
    for rotation, translation in zip(group.rotations, group.translations, strict=True):
        same = (rotations == rotation).all((1, 2))
        gap = translations[same] - translation
        if not (np.abs(gap - np.round(gap)).max(-1, initial=0.0) < TRANSLATION_TOLERANCE).any():
            return False
    return True

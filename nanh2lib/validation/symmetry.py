"""Space group of crystals through spglib, with a time limit, compared with the assigned one.

spglib can take minutes on some cells (spglib issue 567) and holds the interpreter's lock while it
does, so neither a thread nor an alarm can stop it. It runs in a process of its own, which is ended
and replaced when an answer takes too long. Requests are sent ahead of the answers, so the
transport costs little beside spglib's own time.
"""

from __future__ import annotations

import atexit
import contextlib
import fcntl
import os
import select
import subprocess
import sys
import time
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np
import spglib
from numpy.typing import NDArray
from pymatgen.core import Structure

from nanh2lib.crystal.space_group import SpaceGroup, setting_symbol
from nanh2lib.validation.symmetry_worker import ANSWER, READY, REQUEST

Verdict = Literal["same", "gained", "lost", "failed"]
TRANSLATION_TOLERANCE = 0.02
WORKER_FILE = Path(__file__).with_name("symmetry_worker.py")
"""Run as a file, so that the process imports numpy and spglib and nothing of this package."""

_AHEAD = 256
_PIPE_SIZE = 2**20
_READ_EVERY = 0.004
"""Seconds: while many answers are due they are fetched in bunches, which spares context switches."""
_START_TIMEOUT = 120.0


@dataclass(frozen=True)
class SymmetryFinding:
    """What spglib says of a crystal.

    Attributes
    ----------
    verdict : {"same", "gained", "lost", "failed"}
        Against the assigned group: the same number and number of operations; a group that holds
        all assigned operations and more (lattice translations included); anything else; no answer.
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


@dataclass(frozen=True)
class Operations:
    """spglib's answer: the group and its operations in the cell given.

    Attributes
    ----------
    number, hall_number : int
    rotations : ndarray of int, shape (G, 3, 3)
    translations : ndarray, shape (G, 3)
        Fractional.
    """

    number: int
    hall_number: int
    rotations: NDArray[np.int8]
    translations: NDArray[np.float64]


class SymmetryWorker:
    """spglib in a process of its own, ended and replaced when an answer takes too long."""

    def __init__(self) -> None:
        self.pid = os.getpid()
        self._process: subprocess.Popen[bytes] | None = None
        self._inbox = bytearray()

    def close(self) -> None:
        """End the process; the next request starts another."""
        process, self._process, self._inbox = self._process, None, bytearray()
        if process is None:
            return
        process.kill()
        process.wait()
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                stream.close()

    def answers(self, requests: Iterable[bytes], timeout: float) -> Generator[Operations | str, None, None]:
        """Answers of spglib in order, or a text that says why there is none.

        Parameters
        ----------
        requests : iterable of bytes
            See `encode_request`.
        timeout : float
            Seconds that each answer may take.
        """
        source, waiting, outbox, more = iter(requests), deque[bytes](), bytearray(), True
        try:
            while True:
                while more and len(waiting) < _AHEAD:
                    request = next(source, None)
                    if request is None:
                        more = False
                        break
                    waiting.append(request)
                    outbox += request
                if not waiting:
                    return
                result, lost = self._exchange(outbox, timeout, len(waiting))
                waiting.popleft()
                if lost:
                    self.close()
                    outbox = bytearray(b"".join(waiting))
                yield result
        finally:
            # A caller who stops early must not leave answers to questions of his for the next one.
            if waiting:
                self.close()

    def _running(self) -> tuple[int, int]:
        """File descriptors (to, from) of the process, started when needed."""
        if self._process is None:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-W", "ignore", str(WORKER_FILE)],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, bufsize=0,
            )  # fmt: skip
            target, source = _descriptors(self._process)
            os.set_blocking(target, False)
            for descriptor in (target, source):
                _enlarge(descriptor)
            ready, _, _ = select.select([source], [], [], _START_TIMEOUT)
            if not ready or os.read(source, 1) != READY:
                raise BrokenPipeError("the symmetry process did not start")
        return _descriptors(self._process)

    def _exchange(self, outbox: bytearray, timeout: float, due: int) -> tuple[Operations | str, bool]:
        """The next answer (sending what is left to send meanwhile), and whether the process is lost."""
        try:
            target, source = self._running()
            deadline = time.monotonic() + timeout
            while (found := self._parse()) is None:
                left = deadline - time.monotonic()
                if left <= 0:
                    return f"spglib gave no answer within {timeout:g} s", True
                if due > 16 and not outbox:
                    time.sleep(min(_READ_EVERY, left))
                readable, writable, _ = select.select([source], [target] if outbox else [], [], left)
                if writable:
                    del outbox[: os.write(target, outbox[:_PIPE_SIZE])]
                if readable:
                    chunk = os.read(source, _PIPE_SIZE)
                    if not chunk:
                        return "the symmetry process died", True
                    self._inbox += chunk
            return found, False
        except (BrokenPipeError, OSError) as error:
            return f"the symmetry process died ({error})", True

    def _parse(self) -> Operations | str | None:
        if len(self._inbox) < ANSWER.size:
            return None
        status, number, hall_number, m = ANSWER.unpack_from(self._inbox)
        size = ANSWER.size + 33 * m
        if len(self._inbox) < size:
            return None
        body = bytes(self._inbox[ANSWER.size : size])
        del self._inbox[:size]
        if not status:
            return "spglib finds no symmetry"
        rotations = np.frombuffer(body, np.int8, 9 * m).reshape(m, 3, 3)
        translations = np.frombuffer(body, "<f8", 3 * m, 9 * m).reshape(m, 3)
        return Operations(number, hall_number, rotations, translations)


def _descriptors(process: subprocess.Popen[bytes]) -> tuple[int, int]:
    if process.stdin is None or process.stdout is None:
        raise BrokenPipeError("the symmetry process has no pipes")
    return process.stdin.fileno(), process.stdout.fileno()


def _enlarge(descriptor: int) -> None:
    """Room for many requests in a pipe, where the system allows it (Linux): the process never waits for us."""
    size = getattr(fcntl, "F_SETPIPE_SZ", None)
    if size is not None:
        with contextlib.suppress(OSError):
            fcntl.fcntl(descriptor, size, _PIPE_SIZE)


_IDLE: list[SymmetryWorker] = []


def _take_worker() -> SymmetryWorker:
    """An idle worker of this process (not one inherited through a fork), or a new one."""
    _register()
    while _IDLE:
        worker = _IDLE.pop()
        if worker.pid == os.getpid():
            return worker
    return SymmetryWorker()


@lru_cache(maxsize=1)
def _register() -> None:
    atexit.register(close_workers)


def close_workers() -> None:
    """End the idle symmetry processes; they start again when needed."""
    while _IDLE:
        worker = _IDLE.pop()
        if worker.pid == os.getpid():
            worker.close()


def encode_request(
    lattice: NDArray[np.float64], frac_coords: NDArray[np.float64], numbers: Sequence[int], symprec: float
) -> bytes:
    """Request record of a cell; see `nanh2lib.validation.symmetry_worker`."""
    parts = (
        REQUEST.pack(len(numbers), symprec),
        np.asarray(lattice, dtype="<f8").tobytes(),
        np.asarray(frac_coords, dtype="<f8").tobytes(),
        np.asarray(numbers, dtype="<i4").tobytes(),
    )
    return b"".join(parts)


Expected: TypeAlias = SpaceGroup | int | None
Cell: TypeAlias = tuple[NDArray[np.float64], NDArray[np.float64], Sequence[int]]


def find_symmetry(
    structures: Iterable[Structure],
    expected: Expected | Sequence[Expected],
    symprec: float = 1e-2,
    timeout: float = 10.0,
) -> Iterator[SymmetryFinding]:
    """Compare the space group of crystals with the one they were made in.

    Parameters
    ----------
    structures : iterable of Structure
    expected : SpaceGroup, int or None, or one of these for each structure
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
    yield from find_symmetry_of_cells((_cell(s) for s in structures), expected, symprec, timeout)


def _cell(structure: Structure) -> Cell | None:
    try:
        return np.asarray(structure.lattice.matrix), np.asarray(structure.frac_coords), structure.atomic_numbers
    except AttributeError:  # mixed or partial occupancy: a site has no single element
        return None


def find_symmetry_of_cells(
    cells: Iterable[Cell | None], expected: Expected | Sequence[Expected], symprec: float = 1e-2, timeout: float = 10.0
) -> Iterator[SymmetryFinding]:
    """`find_symmetry` of plain cells: lattice rows (A), fractional coordinates (N, 3), atomic numbers (N).

    None stands for something that is not an ordered crystal, and fails.
    """
    crystals = [cell if cell is not None and _is_finite(cell) else None for cell in cells]
    wanted = list(expected) if isinstance(expected, Sequence) else [expected] * len(crystals)
    worker = _take_worker()
    answers = worker.answers((encode_request(*cell, symprec) for cell in crystals if cell is not None), timeout)
    try:
        for cell, group in zip(crystals, wanted, strict=True):
            if cell is not None:
                yield _judge(next(answers), group, symprec)
            else:
                yield SymmetryFinding("failed", None, "", "no atoms, mixed occupancy, or coordinates not finite")
    finally:
        answers.close()
        _IDLE.append(worker)


def _is_finite(cell: Cell) -> bool:
    lattice, frac_coords, numbers = cell
    return len(numbers) > 0 and bool(np.isfinite(lattice).all() and np.isfinite(frac_coords).all())


def _judge(found: Operations | str, expected: Expected, symprec: float) -> SymmetryFinding:
    if isinstance(found, str):
        return SymmetryFinding("failed", None, "", f"{found} (symprec {symprec:g} A)")
    symbol = _symbol(found.number)
    if expected is None:
        return SymmetryFinding("same", found.number, symbol)
    if isinstance(expected, SpaceGroup):
        if found.number == expected.number and len(found.rotations) == expected.order:
            return SymmetryFinding("same", found.number, symbol)
        if _contains(found, expected):
            return SymmetryFinding("gained", found.number, symbol)
    elif found.number == expected:
        return SymmetryFinding("same", found.number, symbol)
    return SymmetryFinding("lost", found.number, symbol)


@lru_cache(maxsize=230)
def _symbol(number: int) -> str:
    hall = next(h for h in range(1, 531) if spglib.get_spacegroup_type(h).number == number)
    return setting_symbol(hall)


def _contains(found: Operations, group: SpaceGroup) -> bool:
    """All operations of the group, and more, are among those found (same cell and origin)."""
    if len(found.rotations) <= group.order:
        return False
    same = (found.rotations[None] == group.rotations[:, None]).all((2, 3))  # (assigned, found)
    gap = found.translations[None] - group.translations[:, None]
    close = np.abs(gap - np.round(gap)).max(-1) < TRANSLATION_TOLERANCE
    return bool((same & close).any(1).all())

"""Units of work on any `concurrent.futures.Executor`; they survive a dying worker.

A unit is a key and arguments. Results are handed to the caller one by one as they come, so that a
driver that dies loses only what was in flight; on the next run it leaves out the keys it has.
"""

from __future__ import annotations

import contextlib
import os
import warnings
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import (
    FIRST_COMPLETED,
    BrokenExecutor,
    CancelledError,
    Executor,
    Future,
    wait,
)
from dataclasses import dataclass
from typing import Any

from tqdm import tqdm

from nanh2lib.errors import ComputationError, InputError, MissingDependencyError
from nanh2lib.execution.executors import SerialExecutor

PATIENCE = 30.0
"""Seconds without a result after which an executor is asked whether it is in trouble."""


@dataclass(frozen=True)
class WorkUnit:
    """One idempotent piece of work.

    Attributes
    ----------
    key : str
        Names the result; the same key always means the same work.
    arguments : tuple
        Positional arguments of the function.
    """

    key: str
    arguments: tuple[Any, ...]


@dataclass(frozen=True)
class UnitResult:
    """What became of a unit.

    Attributes
    ----------
    key : str
    value : Any
        What the function returned; None where it failed.
    error : str or None
        Why there is no value: type and message of the exception, or that the worker died.
    attempts : int
        How often the unit was started, as far as it was to blame; at least 1.
    """

    key: str
    value: Any
    error: str | None = None
    attempts: int = 1

    @property
    def succeeded(self) -> bool:
        return self.error is None


def run_units(
    function: Callable[..., Any],
    units: Iterable[WorkUnit],
    executor: Executor | None = None,
    on_result: Callable[[UnitResult], None] | None = None,
    retries: int = 2,
    progress: bool = True,
    description: str = "units",
) -> list[UnitResult]:
    """Run ``function(*unit.arguments)`` for every unit; nothing is lost when one fails.

    Parameters
    ----------
    function : callable
        Importable by name where the executor uses other processes.
    units : iterable of WorkUnit
        Keys must be unique.
    executor : Executor, optional
        Default: this process, one after the other.
    on_result : callable, optional
        Called in this process with each result as soon as it is there, in any order; write it down.
    retries : int
        How often a unit is started again after a worker died with it in flight.
    progress : bool
        Show a progress bar.
    description : str
        Its title.

    Returns
    -------
    list of UnitResult
        In the order of the units. An exception of the function is a result with ``error``, but
        for a failing import: that is the fault of the worker, not of the unit.

    Raises
    ------
    InputError
        Two units have the same key.
    MissingDependencyError
        A module is missing where the work runs.
    ComputationError
        The executor itself is gone (a Dask scheduler that died).
    """
    work = list(units)
    keys = [unit.key for unit in work]
    if len(set(keys)) != len(keys):
        twice = next(key for i, key in enumerate(keys) if key in keys[:i])
        raise InputError(f"two units of work have the key {twice!r}; a key must name one piece of work")
    results: dict[str, UnitResult] = {}
    # closing(): if on_result raises, the generator is closed at once and stops its workers.
    with (
        tqdm(total=len(work), desc=description, disable=not progress) as bar,
        contextlib.closing(iterate_units(function, work, executor, retries)) as stream,
    ):
        for result in stream:
            results[result.key] = result
            if on_result is not None:
                on_result(result)
            bar.update()
    return [results[key] for key in keys]


def iterate_units(
    function: Callable[..., Any],
    units: Iterable[WorkUnit],
    executor: Executor | None = None,
    retries: int = 2,
) -> Generator[UnitResult, None, None]:
    """Yield results as they come; parameters as for `run_units`.

    When a worker process dies, every unit in flight is a suspect. Suspects are then run one at a
    time, so that only the guilty one is blamed and the others get their result.
    Stopping early (an exception, Ctrl-C, closing the generator) cancels what has not started and
    ends local workers at once; the executor can be used again.
    """
    runner = executor if executor is not None else SerialExecutor()
    waiting = deque(units)
    suspects: deque[WorkUnit] = deque()
    deaths: dict[str, int] = {}  # of workers that ran this unit and nothing else
    running: dict[Future[Any], WorkUnit] = {}
    finished = False
    try:
        while waiting or suspects or running:
            _fill(runner, function, waiting, suspects, running)
            for future in _next_done(runner, running):
                unit = running.pop(future)
                error = _error_of(future)
                if not isinstance(error, BrokenExecutor):
                    yield _result(unit, future, error, 1 + deaths.get(unit.key, 0))
                    continue
                # A first death blames nobody: the unit may have been a bystander.
                known = deaths.get(unit.key)
                deaths[unit.key] = 0 if known is None else known + getattr(error, "deaths", 1)
                if deaths[unit.key] >= retries:
                    yield UnitResult(unit.key, None, _death_notice(error, deaths[unit.key] + 1), deaths[unit.key] + 1)
                else:
                    suspects.append(unit)
        finished = True
    finally:
        if not finished:
            _stop(runner, running)


def _fill(
    runner: Executor,
    function: Callable[..., Any],
    waiting: deque[WorkUnit],
    suspects: deque[WorkUnit],
    running: dict[Future[Any], WorkUnit],
) -> None:
    """Start units: one more than there are workers, but suspects one at a time and with nothing beside them."""
    if suspects:
        queue, limit = suspects, 1
    elif isinstance(runner, SerialExecutor):
        queue, limit = waiting, 1
    else:  # asked each time: workers of a cluster come and go
        queue, limit = waiting, getattr(runner, "workers", os.cpu_count() or 1) + 1
    while queue and len(running) < limit:
        unit = queue.popleft()
        try:
            running[runner.submit(function, *unit.arguments)] = unit
        except BrokenExecutor as error:  # an executor that cannot replace its workers
            refused: Future[Any] = Future()
            refused.set_exception(error)
            running[refused] = unit


def _next_done(runner: Executor, running: dict[Future[Any], WorkUnit]) -> set[Future[Any]]:
    """Wait for results; where none comes, pass on what the executor says about it."""
    while True:
        done, _ = wait(running, timeout=PATIENCE, return_when=FIRST_COMPLETED)
        if done:
            return done
        trouble = getattr(runner, "trouble", lambda: None)()
        if trouble:
            warnings.warn(trouble, stacklevel=2)  # shown once


def _error_of(future: Future[Any]) -> BaseException | None:
    error: BaseException | None
    try:
        error = future.exception()
    except CancelledError as cancelled:
        error = cancelled
    if isinstance(error, CancelledError):
        raise ComputationError(
            "the executor cancelled running work (its scheduler is gone?); start it again and rerun: "
            "results that were written are kept"
        ) from error
    return error


def _result(unit: WorkUnit, future: Future[Any], error: BaseException | None, attempts: int) -> UnitResult:
    if error is None:
        return UnitResult(unit.key, future.result(), None, attempts)
    if isinstance(error, MissingDependencyError) or not isinstance(error, Exception):
        raise error
    if isinstance(error, ImportError):
        raise MissingDependencyError(
            f"{error}, where {unit.key} was to be computed; workers need the same packages as this process"
        ) from error
    return UnitResult(unit.key, None, f"{type(error).__name__}: {' '.join(str(error).split())}", attempts)


def _death_notice(error: BaseException | None, times: int) -> str:
    return f"its worker process died {times} times (out of memory, or killed): {type(error).__name__}"


def _stop(runner: Executor, running: dict[Future[Any], WorkUnit]) -> None:
    for future in running:
        future.cancel()
    terminate = getattr(runner, "terminate", None)
    if terminate is not None and running:
        terminate()

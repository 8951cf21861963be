"""Where work runs: any `concurrent.futures.Executor`, and units of work that survive a dying worker.

A unit is a key and arguments. Results are handed to the caller one by one as they come, so that a
driver that dies loses only what was in flight; on the next run it leaves out the keys it has.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from concurrent.futures import (
    FIRST_COMPLETED,
    BrokenExecutor,
    CancelledError,
    Executor,
    Future,
    ProcessPoolExecutor,
    ThreadPoolExecutor,
    wait,
)
from dataclasses import dataclass
from multiprocessing import get_context, parent_process
from typing import Any

from tqdm import tqdm

from nanh2lib.errors import ComputationError, InputError, MissingDependencyError

WORKER_THREADS = 1
"""Threads of each worker process: two one-thread processes beat one two-thread process on 2 cores."""

_THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS")


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


class SerialExecutor(Executor):
    """Runs each call at once in this process."""

    workers = 1

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        future.set_running_or_notify_cancel()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:  # noqa: BLE001 - handed on in the future, as every executor does
            future.set_exception(error)
        return future


class ThreadsExecutor(ThreadPoolExecutor):
    """Threads of this process; potentials are not thread-safe, so usually one."""

    def __init__(self, workers: int) -> None:
        super().__init__(max_workers=workers)
        self.workers = workers


class ProcessesExecutor(Executor):
    """Local worker processes, started fresh ("spawn"), one thread each; replaced when one dies.

    Workers ignore Ctrl-C (the driver handles it) and end when the driver is gone, however it died.

    Parameters
    ----------
    workers : int
        Number of processes.
    threads : int
        Threads that numerical libraries may use in each.
    """

    def __init__(self, workers: int, threads: int = WORKER_THREADS) -> None:
        self.workers = workers
        self.threads = threads
        self._pool: ProcessPoolExecutor | None = None
        self._lock = threading.Lock()

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        with self._lock, child_environment(dict.fromkeys(_THREAD_VARIABLES, str(self.threads))):
            if self._pool is None:
                self._pool = self._new_pool()
            try:
                return self._pool.submit(fn, *args, **kwargs)
            except BrokenExecutor:
                self._pool.shutdown(wait=False)
                self._pool = self._new_pool()
                return self._pool.submit(fn, *args, **kwargs)

    def _new_pool(self) -> ProcessPoolExecutor:
        return ProcessPoolExecutor(self.workers, mp_context=get_context("spawn"), initializer=_start_worker)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        with self._lock:
            pool, self._pool = self._pool, None
        if pool is not None:
            pool.shutdown(wait=wait, cancel_futures=cancel_futures)

    def terminate(self) -> None:
        """Stop at once: what is running is lost."""
        with self._lock:
            pool, self._pool = self._pool, None
        if pool is None:
            return
        processes = list((getattr(pool, "_processes", None) or {}).values())
        pool.shutdown(wait=False, cancel_futures=True)
        for process in processes:
            process.terminate()


class DaskExecutor(Executor):
    """Workers of a running Dask cluster, which restarts lost work by itself.

    Parameters
    ----------
    address : str
        ``"HOST:PORT"`` of the scheduler.
    timeout : float
        Seconds to wait for it.

    Raises
    ------
    MissingDependencyError
        The extra ``scale`` is not installed.
    ComputationError
        No scheduler answers there, or it has no worker.
    """

    def __init__(self, address: str, timeout: float = 20.0) -> None:
        try:
            from distributed import Client
        except ImportError as error:
            raise MissingDependencyError(
                f"executor 'dask://{address}': {error}; install the extra scale: pip install 'nanh2lib[scale]'"
            ) from error
        try:
            self._client = Client(f"tcp://{address}", timeout=timeout, set_as_default=False)
        except (OSError, ValueError) as error:
            raise ComputationError(
                f"executor 'dask://{address}': no scheduler answers within {timeout:g} s; "
                f"start one (dask scheduler) or check host and port"
            ) from error
        try:
            self._client.wait_for_workers(1, timeout=timeout)
        except TimeoutError as error:
            self._client.close()
            raise ComputationError(
                f"executor 'dask://{address}': the scheduler has no worker after {timeout:g} s; "
                f"start some: dask worker tcp://{address} --nthreads 1"
            ) from error
        self._pool = self._client.get_executor(pure=False)
        self.workers = max(1, sum(self._client.ncores().values()))

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = self._pool.submit(fn, *args, **kwargs)
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        self._pool.shutdown(wait=wait)
        self._client.close()


def make_executor(spec: str = "serial", workers: int | None = None) -> Executor:
    """Executor from a short text, as given on the command line.

    Parameters
    ----------
    spec : str
        ``"serial"``, ``"threads:N"``, ``"processes:N"`` (or ``"processes"``: one per core), or
        ``"dask://HOST:PORT"`` for a cluster that is already running.
    workers : int, optional
        Overrides N.

    Returns
    -------
    concurrent.futures.Executor
        Use it in a ``with`` block. Each has ``.workers``, the number of units it runs at a time.

    Raises
    ------
    InputError
        The text is none of these, or the number is not 1 or more.
    MissingDependencyError, ComputationError
        Dask is not installed, or not there.
    """
    if spec.startswith("dask://"):
        address = spec.removeprefix("dask://").rstrip("/")
        if ":" not in address:
            raise InputError(f"executor {spec!r}: give host and port, for example dask://localhost:8786")
        return DaskExecutor(address)
    kind, _, number = spec.partition(":")
    if kind not in ("serial", "threads", "processes"):
        raise InputError(f"unknown executor {spec!r}; give serial, threads:N, processes:N or dask://HOST:PORT")
    if number and not number.isdigit():
        raise InputError(f"executor {spec!r}: {number!r} is not a number of workers; for example {kind}:2")
    count = workers if workers is not None else int(number) if number else os.cpu_count() or 1
    if count < 1:
        raise InputError(f"executor {spec!r}: {count} workers; give 1 or more")
    if kind == "serial":
        return SerialExecutor()
    return ThreadsExecutor(count) if kind == "threads" else ProcessesExecutor(count)


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
        In the order of the units. An exception of the function is a result with ``error``.

    Raises
    ------
    InputError
        Two units have the same key.
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
    at_a_time = 1 if isinstance(runner, SerialExecutor) else getattr(runner, "workers", os.cpu_count() or 1) + 1
    waiting = deque(units)
    suspects: deque[WorkUnit] = deque()
    deaths: dict[str, int] = {}  # of workers that ran this unit and nothing else
    running: dict[Future[Any], WorkUnit] = {}
    finished = False
    try:
        while waiting or suspects or running:
            _fill(runner, function, waiting, suspects, running, at_a_time)
            done, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in done:
                unit = running.pop(future)
                error = _error_of(future)
                if not isinstance(error, BrokenExecutor):
                    yield _result(unit, future, error, 1 + deaths.get(unit.key, 0))
                    continue
                # A first death blames nobody: the unit may have been a bystander.
                deaths[unit.key] = deaths.get(unit.key, -1) + 1
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
    at_a_time: int,
) -> None:
    """Start units: up to ``at_a_time``, but suspects one at a time and with nothing beside them."""
    if suspects:
        queue, limit = suspects, 1
    else:
        queue, limit = waiting, at_a_time
    while queue and len(running) < limit:
        unit = queue.popleft()
        try:
            running[runner.submit(function, *unit.arguments)] = unit
        except BrokenExecutor as error:  # an executor that cannot replace its workers
            refused: Future[Any] = Future()
            refused.set_exception(error)
            running[refused] = unit


def _error_of(future: Future[Any]) -> BaseException | None:
    try:
        return future.exception()
    except CancelledError as error:
        raise ComputationError(
            "the executor cancelled running work (its scheduler is gone?); start it again and rerun: "
            "results that were written are kept"
        ) from error


def _result(unit: WorkUnit, future: Future[Any], error: BaseException | None, attempts: int) -> UnitResult:
    if error is None:
        return UnitResult(unit.key, future.result(), None, attempts)
    if not isinstance(error, Exception):
        raise error
    return UnitResult(unit.key, None, f"{type(error).__name__}: {' '.join(str(error).split())}", attempts)


def _death_notice(error: BaseException | None, times: int) -> str:
    return f"its worker process died {times} times (out of memory, or killed): {type(error).__name__}"


def _stop(runner: Executor, running: dict[Future[Any], WorkUnit]) -> None:
    for future in running:
        future.cancel()
    terminate = getattr(runner, "terminate", None)
    if terminate is not None and running:
        terminate()


@contextlib.contextmanager
def child_environment(variables: Mapping[str, str]) -> Iterator[None]:
    """Environment variables that processes started inside the ``with`` block get; then as before.

    Parameters
    ----------
    variables : mapping
        Name to value.
    """
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _start_worker() -> None:
    """In a new worker: leave Ctrl-C to the driver, and end when the driver does."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = parent_process()
    if parent is not None:
        threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: Any) -> None:
    parent.join()
    os._exit(1)

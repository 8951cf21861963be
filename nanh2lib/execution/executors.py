"""Executors by name: this process, threads, local processes, or the workers of a Dask cluster."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import (
    BrokenExecutor,
    CancelledError,
    Executor,
    Future,
    ProcessPoolExecutor,
    ThreadPoolExecutor,
)
from concurrent.futures import wait as wait_for
from multiprocessing import get_context, parent_process
from typing import Any

from nanh2lib.errors import ComputationError, InputError, MissingDependencyError

WORKER_THREADS = 1
"""Threads of each worker process: two one-thread processes beat one two-thread process on 2 cores."""

_THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS")


class WorkerDiedError(BrokenExecutor):
    """Workers of a cluster died under a unit of work, as often as the cluster put up with.

    Attributes
    ----------
    deaths : int
        How many workers it took along.
    """

    def __init__(self, deaths: int) -> None:
        super().__init__(f"{deaths} workers of the cluster died")
        self.deaths = deaths


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
    """Workers of a running Dask cluster, which hands lost work to another worker by itself.

    Workers may come and go while work runs. Evaluations run one at a time in each worker process,
    so workers of one thread are the right ones: ``dask worker ADDRESS --nthreads 1``. The network
    must be trusted: whoever reaches a scheduler can run code on its workers.

    Parameters
    ----------
    address : str
        ``"HOST:PORT"`` of the scheduler.
    timeout : float
        Seconds to wait for it, and for its first worker.

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
        self.address = address
        try:
            self._client.wait_for_workers(1, timeout=timeout)
        except TimeoutError as error:
            self._client.close()
            raise ComputationError(
                f"executor 'dask://{address}': the scheduler has no worker after {timeout:g} s; "
                f"start some: dask worker tcp://{address} --nthreads 1"
            ) from error
        self._pending: set[Future[Any]] = set()
        self._workers = 1
        if max(self._client.ncores().values(), default=1) > 1:
            warnings.warn(
                f"dask://{address}: a worker has several threads, but evaluations run one at a time in each process; "
                "start one worker for each core, with --nthreads 1",
                stacklevel=2,
            )

    @property
    def workers(self) -> int:
        """Worker processes that the cluster has now; at least 1."""
        self._count()
        return max(1, self._workers)

    def trouble(self) -> str | None:
        """Why nothing goes on, or None."""
        self._count()
        if self._workers:
            return None
        return (
            f"dask://{self.address}: the cluster has no worker left, waiting for one "
            f"(dask worker tcp://{self.address} --nthreads 1)"
        )

    def _count(self) -> None:
        with contextlib.suppress(OSError):  # the scheduler is gone: what waits for a result hears of it
            self._workers = len(self._client.ncores())

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        task = self._client.submit(fn, *args, pure=False, **kwargs)
        outcome: Future[Any] = Future()
        self._pending.add(outcome)
        outcome.add_done_callback(self._pending.discard)
        outcome.add_done_callback(lambda done: task.cancel() if done.cancelled() else None)
        task.add_done_callback(lambda done: _hand_on(done, outcome))
        return outcome

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        for future in list(self._pending) if cancel_futures else ():
            future.cancel()
        if wait:
            wait_for(list(self._pending))
        self._client.close()


def _hand_on(task: Any, outcome: Future[Any]) -> None:
    """Copy the outcome of a Dask task, and let the cluster forget it."""
    if not outcome.set_running_or_notify_cancel():
        return
    value = None
    try:
        error = task.exception()
        if error is None:
            value = task.result()
    except (Exception, asyncio.CancelledError) as trouble:  # noqa: BLE001 - whoever waits must hear of it
        error = CancelledError() if task.cancelled() else trouble
    task.release()  # else the cluster keeps the result, and computes it again when it is lost
    if error is None:
        outcome.set_result(value)
    else:
        outcome.set_exception(_told_apart(error))


def _told_apart(error: BaseException) -> BaseException:
    """Troubles of the cluster in our own words; what the function raised stays as it is."""
    from distributed import KilledWorker

    if isinstance(error, KilledWorker):
        return WorkerDiedError(error.allowed_failures + 1)
    if isinstance(error, RuntimeError) and "during deserialization" in str(error):
        return MissingDependencyError(
            "the scheduler cannot read the work: it and its workers need the same packages as this process "
            f"({' '.join(str(error.__cause__ or error).split())})"
        )
    return error


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

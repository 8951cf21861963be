"""Where work runs: any `concurrent.futures.Executor`, and units of work that survive a dying worker."""

from nanh2lib.execution.executors import (
    DaskExecutor,
    ProcessesExecutor,
    SerialExecutor,
    ThreadsExecutor,
    WorkerDiedError,
    child_environment,
    make_executor,
)
from nanh2lib.execution.units import UnitResult, WorkUnit, iterate_units, run_units

__all__ = [
    "DaskExecutor",
    "ProcessesExecutor",
    "SerialExecutor",
    "ThreadsExecutor",
    "UnitResult",
    "WorkUnit",
    "WorkerDiedError",
    "child_environment",
    "iterate_units",
    "make_executor",
    "run_units",
]

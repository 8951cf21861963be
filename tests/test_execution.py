import os
import signal
import subprocess
import sys
import time
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import pytest

from nanh2lib.errors import ComputationError, InputError, MissingDependencyError
from nanh2lib.execution import (
    ProcessesExecutor,
    SerialExecutor,
    ThreadsExecutor,
    UnitResult,
    WorkerDiedError,
    WorkUnit,
    iterate_units,
    make_executor,
    run_units,
)
from tests.system import require_module

ROOT = Path(__file__).parents[1]


def square(x):
    return x * x


def fail_on_odd(x):
    if x % 2:
        raise ValueError(f"{x} is odd\nand that is that")
    return x


def thread_settings():
    return os.environ.get("OMP_NUM_THREADS"), os.environ.get("OPENBLAS_NUM_THREADS"), os.getpid()


def die(code=1):
    os._exit(code)


def die_if(x, poison):
    """Note the attempt, then kill the process if this is the poisoned unit."""
    if x == poison:
        os._exit(1)
    time.sleep(0.05)
    return x


def die_once(marker):
    path = Path(marker)
    if not path.exists():
        path.touch()
        os._exit(1)
    return "survived"


def sleep(seconds):
    time.sleep(seconds)
    return os.getpid()


def units(function_arguments):
    return [WorkUnit(f"u{i}", arguments) for i, arguments in enumerate(function_arguments)]


@pytest.mark.parametrize("spec", ["serial", "threads:1", "threads:3", "processes:2"])
def test_results_come_in_the_order_of_the_units_whatever_the_executor(spec):
    seen = []
    with make_executor(spec) as executor:
        results = run_units(square, units([(i,) for i in range(7)]), executor, seen.append, progress=False)
    assert [result.value for result in results] == [0, 1, 4, 9, 16, 25, 36]
    assert [result.key for result in results] == [f"u{i}" for i in range(7)]
    assert sorted(result.key for result in seen) == [f"u{i}" for i in range(7)]
    assert all(result.succeeded and result.attempts == 1 for result in results)


@pytest.mark.parametrize("spec", ["serial", "processes:2"])
def test_an_exception_is_a_result_with_its_reason_and_is_not_tried_again(spec):
    with make_executor(spec) as executor:
        results = run_units(fail_on_odd, units([(0,), (1,), (2,)]), executor, progress=False)
    assert [result.value for result in results] == [0, None, 2]
    assert results[1] == UnitResult("u1", None, "ValueError: 1 is odd and that is that", 1)
    assert not results[1].succeeded


def test_no_units_and_no_executor():
    assert run_units(square, [], progress=False) == []
    assert run_units(square, units([(3,)]), progress=False)[0].value == 9


def test_a_key_names_one_piece_of_work():
    with pytest.raises(InputError, match="two units of work have the key 'a'"):
        run_units(square, [WorkUnit("a", (1,)), WorkUnit("b", (1,)), WorkUnit("a", (2,))], progress=False)


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("proceses:2", "unknown executor 'proceses:2'; give serial, threads:N, processes:N or dask://HOST:PORT"),
        ("processes:two", "'two' is not a number of workers; for example processes:2"),
        ("processes:0", "0 workers; give 1 or more"),
        ("dask://localhost", "give host and port, for example dask://localhost:8786"),
        ("", "unknown executor ''"),
    ],
)
def test_a_text_that_names_no_executor(spec, words):
    with pytest.raises(InputError) as caught:
        make_executor(spec)
    assert words in str(caught.value)


def test_the_number_of_workers():
    assert make_executor("processes:3").workers == 3
    assert make_executor("processes:3", workers=1).workers == 1
    assert make_executor("processes").workers == os.cpu_count()
    assert isinstance(make_executor("serial"), SerialExecutor)
    assert isinstance(make_executor("threads:1"), ThreadsExecutor)
    assert isinstance(make_executor("processes:1"), ProcessesExecutor)
    assert all(isinstance(make_executor(spec), Executor) for spec in ("serial", "threads:1", "processes:1"))


def test_worker_processes_use_one_thread_and_leave_our_environment_alone(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    monkeypatch.delenv("OPENBLAS_NUM_THREADS", raising=False)
    with make_executor("processes:1") as executor:
        omp, openblas, pid = executor.submit(thread_settings).result()
    assert (omp, openblas) == ("1", "1")
    assert pid != os.getpid()
    assert os.environ["OMP_NUM_THREADS"] == "7"
    assert "OPENBLAS_NUM_THREADS" not in os.environ


def test_a_unit_that_kills_its_worker_is_blamed_alone_and_the_others_finish():
    seen = []
    work = units([(i, 2) for i in range(6)])
    with make_executor("processes:2") as executor:
        results = run_units(die_if, work, executor, seen.append, retries=1, progress=False)
    assert [result.value for result in results] == [0, 1, None, 3, 4, 5]
    assert "worker process died 2 times" in results[2].error
    assert results[2].attempts == 2
    assert all(result.attempts == 1 for result in results if result.key != "u2")
    assert sorted(result.key for result in seen) == sorted(result.key for result in results)


def test_a_unit_whose_worker_died_by_accident_gets_its_result(tmp_path):
    with make_executor("processes:1") as executor:
        (result,) = run_units(die_once, units([(str(tmp_path / "marker"),)]), executor, progress=False)
    assert result.value == "survived"


def test_an_executor_that_cannot_replace_its_workers_gives_failures_not_a_hang():
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as executor:
        results = run_units(die, units([(1,), (1,)]), executor, retries=1, progress=False)
    assert [result.succeeded for result in results] == [False, False]
    assert all("BrokenProcessPool" in result.error for result in results)


def test_when_writing_a_result_fails_the_rest_is_cancelled_and_the_error_comes_through():
    seen = []

    def refuse(result):
        seen.append(result)
        raise OSError("disk full")

    start = time.monotonic()
    with make_executor("processes:1") as executor, pytest.raises(OSError, match="disk full"):
        run_units(sleep, units([(0.01,), (60,), (60,)]), executor, refuse, progress=False)
    assert len(seen) == 1
    assert time.monotonic() - start < 30


def test_stopping_early_leaves_an_executor_that_can_be_used_again():
    with make_executor("processes:2") as executor:
        stream = iterate_units(sleep, units([(0.01,), (30,), (30,), (30,)]), executor)
        assert next(stream).succeeded
        stream.close()
        assert run_units(square, units([(5,)]), executor, progress=False)[0].value == 25


def test_a_serial_run_can_be_interrupted():
    def interrupt(x):
        if x == 1:
            raise KeyboardInterrupt
        return x

    seen = []
    with pytest.raises(KeyboardInterrupt):
        run_units(interrupt, units([(0,), (1,), (2,)]), None, seen.append, progress=False)
    assert [result.value for result in seen] == [0]


def test_a_cancelled_future_is_the_executors_failure_not_the_units():
    class Cancelling(SerialExecutor):
        def submit(self, fn, /, *args, **kwargs):
            future = super().submit(fn, *args, **kwargs).__class__()
            future.cancel()
            future.set_running_or_notify_cancel()
            return future

    with pytest.raises(ComputationError, match="results that were written are kept"):
        run_units(square, units([(1,)]), Cancelling(), progress=False)


def missing_module(x):
    raise ModuleNotFoundError("No module named 'gpaw'")


@pytest.mark.parametrize("spec", ["serial", "processes:1"])
def test_a_module_that_is_missing_stops_the_run_instead_of_failing_every_unit(spec):
    seen = []
    with (
        make_executor(spec) as executor,
        pytest.raises(MissingDependencyError, match=r"No module named 'gpaw', where u[01] was to be computed"),
    ):
        run_units(missing_module, units([(0,), (1,)]), executor, seen.append, progress=False)
    assert seen == []


class Cluster(ThreadsExecutor):
    """Threads that are counted as the workers of a cluster are, and can be in trouble."""

    def __init__(self, sizes, troubles=()):
        super().__init__(8)
        self.sizes, self.troubles, self.in_flight, self.most = list(sizes), list(troubles), 0, []

    @property
    def workers(self):
        return self.sizes.pop(0) if len(self.sizes) > 1 else self.sizes[0]

    @workers.setter
    def workers(self, number):
        pass

    def trouble(self):
        return self.troubles.pop(0) if self.troubles else None

    def submit(self, fn, /, *args, **kwargs):
        self.in_flight += 1
        self.most.append(self.in_flight)
        future = super().submit(fn, *args, **kwargs)
        future.add_done_callback(lambda _: setattr(self, "in_flight", self.in_flight - 1))
        return future


def test_workers_that_join_later_get_work_too():
    cluster = Cluster([1, 1, 6])
    with cluster as executor:
        run_units(sleep, units([(0.1,)] * 20), executor, progress=False)
    assert max(cluster.most[:3]) <= 2
    assert 5 <= max(cluster.most) <= 7


def test_an_executor_in_trouble_says_so_while_it_waits(monkeypatch):
    monkeypatch.setattr("nanh2lib.execution.units.PATIENCE", 0.1)
    with Cluster([2], troubles=["the cluster has no worker left"]) as executor, pytest.warns(match="no worker left"):
        (result,) = run_units(sleep, units([(0.5,)]), executor, progress=False)
    assert result.succeeded


def test_workers_that_die_under_a_unit_blame_it_only_when_it_ran_alone():
    class Dying(SerialExecutor):
        def submit(self, fn, /, *args, **kwargs):
            if args[0] != 1:
                return super().submit(fn, *args, **kwargs)
            future = Future()
            future.set_exception(WorkerDiedError(4))
            return future

    results = run_units(square, units([(0,), (1,), (2,)]), Dying(), progress=False)
    assert [result.value for result in results] == [0, None, 4]
    assert results[1].error == "its worker process died 5 times (out of memory, or killed): WorkerDiedError"


def test_progress_goes_to_stderr(capsys):
    run_units(square, units([(1,)]), progress=True, description="squares")
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "squares" in captured.err


DRIVER = """
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)  # a background shell hands on an ignored Ctrl-C
from nanh2lib.execution import make_executor, run_units
from tests.test_execution import sleep, units
if __name__ == "__main__":
    with make_executor("processes:2") as executor:
        run_units(sleep, units([(0.01,), (0.01,), (600,), (600,)]), executor,
                  lambda result: print(result.value, flush=True), progress=False)
"""


def alive(pid):
    """Whether a process runs (a zombie does not)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.skipif(not Path("/proc").exists(), reason="looks at /proc")
@pytest.mark.parametrize("sent", [signal.SIGKILL, signal.SIGINT])
def test_workers_end_with_their_driver_however_it_ends(tmp_path, sent):
    script = tmp_path / "driver.py"
    script.write_text(DRIVER)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    driver = subprocess.Popen(
        [sys.executable, script], cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    workers = {int(driver.stdout.readline()) for _ in range(2)}
    assert all(alive(pid) for pid in workers)
    time.sleep(0.5)
    driver.send_signal(sent)
    driver.wait(30)
    deadline = time.monotonic() + 30
    while any(alive(pid) for pid in workers) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not any(alive(pid) for pid in workers)
    if sent == signal.SIGINT:
        assert "KeyboardInterrupt" in driver.stderr.read()


# --- Dask -----------------------------------------------------------------------------------------


@pytest.mark.scale
@pytest.mark.slow
def test_a_dask_cluster_that_loses_a_worker_in_mid_run_loses_no_unit(dask_cluster):
    seen = []

    def on_result(result):
        seen.append(result.key)
        if len(seen) == 3:
            dask_cluster.workers[0].kill()

    with make_executor(f"dask://{dask_cluster.address}") as executor:
        results = run_units(die_if, units([(i, -1) for i in range(20)]), executor, on_result, progress=False)
        assert [result.value for result in results] == list(range(20))
        assert len(seen) == len(set(seen)) == 20
        failed = run_units(fail_on_odd, units([(1,), (2,)]), executor, progress=False)
    assert failed[0].error == "ValueError: 1 is odd and that is that"
    assert failed[1].value == 2


@pytest.mark.scale
def test_no_dask_scheduler_there():
    require_module("distributed", "scale")
    from nanh2lib.execution import DaskExecutor

    with pytest.raises(ComputationError, match=r"'dask://127.0.0.1:1': no scheduler answers within 1 s"):
        DaskExecutor("127.0.0.1:1", timeout=1)


def test_dask_without_the_package_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(MissingDependencyError, match=r"install the extra scale: pip install 'nanh2lib\[scale\]'"):
        make_executor("dask://localhost:8786")

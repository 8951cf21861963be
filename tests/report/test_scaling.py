import json

import pytest

from nanh2lib.errors import InputError
from nanh2lib.report import plots
from nanh2lib.report.scaling import relaxation_frame, relaxation_summary, throughput_frame, worker_spans


def task(worker, start, stop, action="compute"):
    return {"worker": worker, "startstops": ({"action": action, "start": start, "stop": stop},)}


def test_tasks_by_worker_in_seconds_after_the_first_began():
    records = [task("b", 12.0, 13.0), task("a", 10.0, 11.5), task("a", 11.5, 12.0), task("b", 9.0, 9.5, "transfer")]
    assert worker_spans(records) == {"worker 1": [(0.0, 1.5), (1.5, 2.0)], "worker 2": [(2.0, 3.0)]}
    assert worker_spans([]) == {}


def test_the_timeline_refuses_what_it_cannot_draw():
    with pytest.raises(InputError, match="nothing to draw"):
        plots.worker_timeline({})
    with pytest.raises(InputError, match="'w' ends before it begins"):
        plots.worker_timeline({"w": [(2.0, 1.0)]})


def test_measured_throughput_as_a_table(tmp_path):
    path = tmp_path / "throughput.json"
    row = {"work": "label", "potential": "chgnet", "unit": "per minute", "rate": 500.0, "load_average": [0.2, 1.9]}
    rows = {"a": {**row, "workers": 2, "threads": 1}, "b": {**row, "workers": 1, "threads": 2, "rate": 300.0}}
    path.write_text(json.dumps({"machine": {"processor": "some CPU", "cores": 2}, "rows": rows}))
    frame, machine = throughput_frame(path)
    assert frame.to_dict("index") == {"label, chgnet, per minute": {"2 x 1": 500.0, "1 x 2": 300.0}}
    assert machine == "some CPU, 2 cores, load average up to 1.9"


def test_throughput_that_was_not_measured_or_is_something_else(tmp_path):
    frame, machine = throughput_frame(tmp_path / "nothing.json")
    assert frame.empty
    assert "bench_throughput" in machine
    (tmp_path / "bad.json").write_text('{"rows": 3}')
    with pytest.raises(InputError, match="restore the committed file"):
        throughput_frame(tmp_path / "bad.json")


def descent(calls, energy, converged=True):
    return {"calls": calls, "ev_per_fu": energy, "converged": converged}


def test_relaxations_that_were_stopped_are_bounds_and_their_energies_are_not_compared(tmp_path):
    rows = {
        "a": {"setting": "Pc", "atoms": 64, "ours": descent(50, -4.0), "LBFGS": descent(200, -4.0),
              "FIRE": descent(200, -3.0, False)},
        "b": {"setting": "Fddd", "atoms": 16, "ours": descent(90, -4.0), "LBFGS": descent(120, -4.1),
              "FIRE": descent(300, -4.0)},
        "c": {"setting": "Pc", "atoms": 64, "ours": descent(10, -4.0)},
    }  # fmt: skip
    summary = relaxation_summary({"rows": rows})
    assert summary["crystals"] == 2
    assert summary["calls, ours / FIRE, median"] == pytest.approx((50 / 200 + 90 / 300) / 2)
    assert summary["calls at most 0.50 of LBFGS"] == 1
    assert summary["FIRE converged"] == 1
    assert summary["energy, ours - FIRE, median, meV per atom"] == 0
    assert summary["energy, ours - LBFGS, median, meV per atom"] == pytest.approx(12.5)
    assert summary["ours within 1 meV per atom of LBFGS or lower"] == 1
    path = tmp_path / "relaxation.json"
    path.write_text(json.dumps({"rows": rows}))
    frame, again = relaxation_frame(path)
    assert again == summary
    assert list(frame["calls, FIRE"]) == [">200", "300"]
    assert list(frame["ours above FIRE"]) == [None, 0.0]
    assert relaxation_frame(tmp_path / "nothing.json")[0].empty

"""The throughput benchmark: it goes on where it stopped, and only on the machine that it began on."""

from __future__ import annotations

import json

import pytest

from benchmarks import bench_throughput


@pytest.fixture
def measured(monkeypatch, tmp_path):
    """Names of the rows that are measured, in turn; the second of three stops the benchmark, once."""
    calls, stops = [], [KeyboardInterrupt()]
    monkeypatch.setattr(bench_throughput, "RESULT", tmp_path / "throughput.json")
    monkeypatch.setattr(bench_throughput, "crystals", lambda count: [])

    def measure(name):
        calls.append(name)
        if name == "b" and stops:
            raise stops.pop()
        return {"unit": "per minute", "rate": 60.0}

    rows = {name: ({"work": name}, lambda n=name: measure(n)) for name in "abc"}
    monkeypatch.setattr(bench_throughput, "jobs", lambda *_: rows)
    return calls


def kept():
    return json.loads(bench_throughput.RESULT.read_text())


def test_a_rerun_measures_what_is_missing(measured, capsys):
    with pytest.raises(KeyboardInterrupt):
        bench_throughput.main([])
    assert list(kept()["rows"]) == ["a"]
    bench_throughput.main([])
    assert measured == ["a", "b", "b", "c"]
    bench_throughput.main([])
    assert measured == ["a", "b", "b", "c"]
    bench_throughput.main(["--fresh", "--only", "c"])
    assert measured[4:] == ["c"]
    assert set(kept()["rows"]) == {"a", "b", "c"}
    assert "c: 60 per minute" in capsys.readouterr().out


def test_rows_of_another_machine_are_not_mixed_in(measured):
    bench_throughput.RESULT.write_text(json.dumps({"machine": {"processor": "another"}, "rows": {"a": {}, "c": {}}}))
    bench_throughput.main(["--only", "a"])
    assert list(kept()["rows"]) == ["a"]
    assert kept()["machine"] == bench_throughput.machine()
    assert kept()["rows"]["a"]["rate"] == 60.0

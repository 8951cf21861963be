"""Reports on work that ran in parallel: what a Dask cluster did, and measured throughput."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from nanh2lib.errors import InputError
from nanh2lib.report.book import project_root

COMMITTED = Path("benchmarks", "results", "throughput.json")


def worker_spans(records: Iterable[Mapping[str, Any]]) -> dict[str, list[tuple[float, float]]]:
    """When each worker of a Dask cluster computed, from the scheduler's own record.

    Parameters
    ----------
    records : iterable of mapping
        ``data`` of ``distributed.get_task_stream``.

    Returns
    -------
    dict
        Begin and end of each task in seconds after the first began, by worker; workers are
        numbered in the order in which they began.
    """
    found = [
        (step["start"], step["stop"], record["worker"])
        for record in records
        for step in record["startstops"]
        if step["action"] == "compute"
    ]
    found.sort()
    numbers: dict[str, int] = {}
    spans: dict[str, list[tuple[float, float]]] = {}
    for start, stop, worker in found:
        number = numbers.setdefault(worker, len(numbers) + 1)
        spans.setdefault(f"worker {number}", []).append((start - found[0][0], stop - found[0][0]))
    return spans


def throughput_frame(path: str | Path | None = None) -> tuple[pd.DataFrame, str]:
    """Table of the committed throughput measurement, and what it was measured on.

    Parameters
    ----------
    path : path, optional
        ``benchmarks/results/throughput.json`` of the checkout by default.

    Returns
    -------
    frame : DataFrame
        One row for each kind of work and potential; columns are workers x threads, cells labels
        per minute or relaxations per hour. Without rows where nothing was measured yet.
    machine : str
        Processor, cores and the load average while it was measured.

    Raises
    ------
    InputError
        The file is of another form.
    """
    path = project_root() / COMMITTED if path is None else Path(path)
    if not path.is_file():
        return pd.DataFrame(), "not measured yet: python -m benchmarks.bench_throughput"
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        cells: dict[str, dict[str, float]] = {}
        for row in data["rows"].values():
            name = f"{row['work']}, {row['potential']}, {row['unit']}"
            cells.setdefault(name, {})[f"{row['workers']} x {row['threads']}"] = float(row["rate"])
        loads = [load for row in data["rows"].values() for load in row["load_average"]]
        machine = f"{data['machine']['processor']}, {data['machine']['cores']} cores"
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path}: not a table of throughput ({error!r}); restore the committed file") from error
    return pd.DataFrame.from_dict(cells, orient="index"), f"{machine}, load average up to {max(loads, default=0.0):.1f}"

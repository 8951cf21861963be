"""What computing costs: work on a Dask cluster, measured throughput, energy calls of relaxations."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from statistics import median
from typing import Any

import pandas as pd

from nanh2lib.report.book import project_root
from nanh2lib.report.committed import read_committed

COMMITTED = Path("benchmarks", "results", "throughput.json")
RELAXATIONS = Path("benchmarks", "results", "relaxation.json")
ATOMS_PER_FORMULA_UNIT = 4
SAME_BASIN = 1.0
"""meV per atom: two relaxations whose energies differ by less count as equally deep."""


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
    absent = pd.DataFrame(), "not measured yet: python -m benchmarks.bench_throughput"
    return read_committed(path, "a table of throughput", _throughput, absent)


def _throughput(data: Mapping[str, Any]) -> tuple[pd.DataFrame, str]:
    cells: dict[str, dict[str, float]] = {}
    for row in data["rows"].values():
        name = f"{row['work']}, {row['potential']}, {row['unit']}"
        cells.setdefault(name, {})[f"{row['workers']} x {row['threads']}"] = float(row["rate"])
    loads = [load for row in data["rows"].values() for load in row["load_average"]]
    machine = f"{data['machine']['processor']}, {data['machine']['cores']} cores"
    return pd.DataFrame.from_dict(cells, orient="index"), f"{machine}, load average up to {max(loads, default=0.0):.1f}"


def relaxation_summary(data: Mapping[str, Any]) -> dict[str, float]:
    """Medians of the relaxation benchmark, and how many crystals meet each goal.

    Parameters
    ----------
    data : mapping
        What ``benchmarks/bench_relaxation.py`` writes; rows without all three descents are left out.

    Returns
    -------
    dict
        By what it is, e.g. ``"calls, ours / FIRE, median"``. A FIRE run that was stopped at its
        limit enters with that limit, so its ratio is an upper bound, and its energy is not compared.
    """
    rows = [row for row in data["rows"].values() if {"ours", "FIRE", "LBFGS"} <= row.keys()]
    found: dict[str, float] = {"crystals": len(rows)}
    if not rows:
        return found
    for name, goal in (("FIRE", 1 / 3), ("LBFGS", 1 / 2)):
        ratios = [row["ours"]["calls"] / row[name]["calls"] for row in rows]
        gaps = [_gap(row, name) for row in rows if row[name]["converged"]]
        found[f"calls, ours / {name}, median"] = median(ratios)
        found[f"calls at most {goal:.2f} of {name}"] = sum(ratio <= goal for ratio in ratios)
        found[f"{name} converged"] = len(gaps)
        if gaps:
            found[f"energy, ours - {name}, median, meV per atom"] = median(gaps)
        found[f"ours within 1 meV per atom of {name} or lower"] = sum(gap <= SAME_BASIN for gap in gaps)
        found[f"ours lower than {name} by more"] = sum(gap < -SAME_BASIN for gap in gaps)
    return found


def _gap(row: Mapping[str, Any], name: str) -> float:
    """Energy of ours above another relaxation, meV per atom."""
    return float(1000 * (row["ours"]["ev_per_fu"] - row[name]["ev_per_fu"]) / ATOMS_PER_FORMULA_UNIT)


def relaxation_frame(path: str | Path | None = None) -> tuple[pd.DataFrame, dict[str, float]]:
    """Table of the committed relaxation benchmark, and its summary.

    Parameters
    ----------
    path : path, optional
        ``benchmarks/results/relaxation.json`` of the checkout by default.

    Returns
    -------
    frame : DataFrame
        One row for each crystal: setting, atoms of the primitive cell, energy calls of the three
        relaxations (``">400"``: stopped there unconverged) and the energy of ours above the other
        two in meV per atom (None where that one did not converge). Without rows where nothing was
        measured yet.
    summary : dict
        `relaxation_summary`.

    Raises
    ------
    InputError
        The file is of another form.
    """
    path = project_root() / RELAXATIONS if path is None else Path(path)
    absent = pd.DataFrame(), relaxation_summary({"rows": {}})
    return read_committed(path, "a table of relaxations", _relaxations, absent)


def _relaxations(data: Mapping[str, Any]) -> tuple[pd.DataFrame, dict[str, float]]:
    lines = []
    for row in data["rows"].values():
        if not {"ours", "FIRE", "LBFGS"} <= row.keys():
            continue
        line: dict[str, Any] = {"setting": row["setting"], "atoms": row["atoms"]}
        for name in ("ours", "LBFGS", "FIRE"):
            line[f"calls, {name}"] = f"{'' if row[name]['converged'] else '>'}{row[name]['calls']}"
        for name in ("LBFGS", "FIRE"):
            line[f"ours above {name}"] = round(_gap(row, name), 1) if row[name]["converged"] else None
        lines.append(line)
    return pd.DataFrame(lines, dtype=object), relaxation_summary(data)

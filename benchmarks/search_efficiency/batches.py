"""Whole batches are judged; rows of one that was cut short wait in unfinished.csv.

The proposals of a batch stand best first, so what a cut leaves out is its worse part.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from benchmarks.search_efficiency.judged import RELAXATION_COLUMNS, SAMPLE_COLUMNS
from benchmarks.search_efficiency.tables import read_rows, write_rows

UNFINISHED = "unfinished.csv"
PLACE = ["method", "variant", "held_out", "seed", "template", "batch"]


def settle(results: Path) -> tuple[int, int]:
    """Sort rows into relaxations.csv (whole batches) and unfinished.csv (the others).

    Parameters
    ----------
    results : Path
        Folder of the tables. Not while a run appends to them.

    Returns
    -------
    whole, unfinished : int
        Rows of each.
    """
    paths = [results / "relaxations.csv", results / UNFINISHED]
    parts = [read_rows(path, RELAXATION_COLUMNS) for path in paths]
    rows = pd.concat([part for part in parts if len(part)], ignore_index=True) if any(map(len, parts)) else parts[0]
    whole = is_whole(rows, read_rows(results / "samples.csv", SAMPLE_COLUMNS))
    counts = []
    for path, chosen in zip(paths, (rows[whole], rows[~whole]), strict=True):
        if len(chosen) or path.exists():
            write_rows(path, RELAXATION_COLUMNS, [_row(row) for row in chosen.to_dict("records")])
        counts.append(len(chosen))
    return counts[0], counts[1]


def is_whole(rows: pd.DataFrame, samples: pd.DataFrame) -> pd.Series:
    """Whether all proposals of each row's batch have a row.

    Parameters
    ----------
    rows : DataFrame, N rows
        Of relaxations.csv; the batch is read from the sample id.
    samples : DataFrame
        Of samples.csv.

    Returns
    -------
    Series of bool, length N
    """
    numbers = rows["sample_id"].str.extract(r"-b(\d+)-\d+$")[0].astype(float)
    keyed = rows.assign(batch=numbers, held_out=rows["held_out"].astype(int))
    found = keyed.groupby(PLACE)["sample_id"].transform("nunique")
    proposed = samples.assign(held_out=samples["held_out"].astype(int)).groupby(PLACE)["proposed"].max()
    keys = pd.MultiIndex.from_frame(keyed[PLACE].astype({"batch": int, "seed": int}))
    wanted = pd.Series(proposed.reindex(keys).to_numpy(), index=rows.index)
    return pd.Series(found.to_numpy() >= wanted.to_numpy(), index=rows.index)


def _row(row: dict[Any, Any]) -> dict[str, Any]:
    """For the CSV file: no number where there is none."""
    plain = {str(name): value for name, value in row.items()}
    return plain | {n: None if plain[n] != plain[n] else float(plain[n]) for n in ("energy_start", "energy_final")}

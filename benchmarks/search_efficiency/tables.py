"""CSV files that several processes may append to, and that a kill leaves readable."""

from __future__ import annotations

import csv
import fcntl
import io
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from nanh2lib.errors import InputError
from nanh2lib.files import write_atomically


def append_row(path: Path, columns: Sequence[str], row: Mapping[str, Any]) -> None:
    """Append one row: whole, under a lock, on the disk when the call returns.

    A line that a kill left unfinished is cut off first. The header is written with the first row.

    Raises
    ------
    InputError
        The row lacks a column or has another one.
    """
    if set(row) != set(columns):
        raise InputError(f"{path.name}: row has columns {sorted(set(row) ^ set(columns))} too many or too few")
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+b") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        _cut_unfinished_line(stream)
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        if stream.seek(0, os.SEEK_END) == 0:
            writer.writerow(columns)
        writer.writerow([_plain(row[name]) for name in columns])
        stream.write(text.getvalue().encode())
        stream.flush()
        os.fsync(stream.fileno())


def _cut_unfinished_line(stream: io.BufferedRandom) -> None:
    end = stream.seek(0, os.SEEK_END)
    if end == 0:
        return
    stream.seek(0)
    content = stream.read()
    if not content.endswith(b"\n"):
        stream.truncate(content.rfind(b"\n") + 1)


def write_rows(path: Path, columns: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> None:
    """Replace a table by other rows; whole or not at all."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([_plain(row[name]) for name in columns] for row in rows)
    write_atomically(path, text.getvalue().encode())


def _plain(value: Any) -> Any:
    if value is None:
        return ""
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, float):
        return f"{value:.6f}"
    return value


def read_rows(path: Path, columns: Sequence[str]) -> pd.DataFrame:
    """Rows of a table; none if there is no file yet.

    Raises
    ------
    InputError
        The file has other columns.
    """
    if not path.exists():
        return pd.DataFrame(columns=list(columns))
    text = path.read_bytes()
    whole = text[: text.rfind(b"\n") + 1]
    names = {"variant": str, "duplicate_of": str, "in_training": str, "method": str, "template": str, "flags": str}
    numbers = {name: [""] for name in ("energy_start", "energy_final", "energy_judged") if name in columns}
    frame = pd.read_csv(io.BytesIO(whole), dtype=names, keep_default_na=False, na_values=numbers)
    if list(frame.columns) != list(columns):
        raise InputError(f"{path}: columns {list(frame.columns)}; expected {list(columns)}")
    return frame

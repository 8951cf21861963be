"""Extended XYZ, compressed: a store as one text file that any tool reads.

One frame per crystal. Besides the usual keys the comment line has the candidate's id, which crystal
of the candidate it is (``frame=raw``, or the key of a relaxation), and in ``record`` everything else
as JSON, with all its digits.
"""

from __future__ import annotations

import gzip
import io
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from nanh2lib.errors import InputError
from nanh2lib.store.codec import Record, labels_of

RAW = "raw"
DECIMALS = 12
"""Of positions (A): far below any meaning, and reading and writing again gives the same digits."""

_QUOTED = r'"((?:[^"\\]|\\.)*)"'
_LATTICE = re.compile(r'Lattice="([^"]*)"')
_CANDIDATE = re.compile(rf" candidate={_QUOTED}")
_FRAME = re.compile(rf" frame={_QUOTED}")
_RECORD = re.compile(rf" record={_QUOTED}")


def write_records(path: str | Path, records: Iterable[Record]) -> int:
    """Write records, gzip-compressed if the name ends in ``.gz``; the same records give the same bytes.

    The file appears whole or not at all.

    Returns
    -------
    int
        Candidates written.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    count = 0
    try:
        with scratch.open("wb") as raw:
            packed: Any = gzip.GzipFile("", "wb", 9, raw, mtime=0) if path.suffix == ".gz" else raw
            with io.TextIOWrapper(packed, encoding="utf-8", newline="\n") as text:
                for record in records:
                    text.writelines(_frames(record))
                    count += 1
                text.flush()
                if packed is not raw:
                    packed.close()
        os.replace(scratch, path)
    finally:
        scratch.unlink(missing_ok=True)
    return count


def _frames(record: Record) -> Iterator[str]:
    """The raw crystal with everything that is known of it, then its relaxed ones."""
    relaxations = record["relaxations"]
    rest = {key: value for key, value in record.items() if key not in ("structure", "relaxations")}
    energies = {label.potential: label.value for label in labels_of(record) if label.value is not None}
    report = record["report"]
    shown: dict[str, Any] = {
        "method": _quote(record["method"]),
        "seed": record["seed"],
        "accepted": "T" if report is not None and report["passed"] else "F",
        **{f"ev_per_fu_{_word(name)}": repr(value) for name, value in energies.items()},
    }
    yield _frame(record["id"], RAW, record["structure"], shown, rest)
    for key, result in relaxations.items():
        rest = {name: value for name, value in result.items() if name != "structure"}
        shown = {"ev_per_fu": repr(result["energy_final"]), "converged": "T" if result["converged"] else "F"}
        yield _frame(record["id"], key, result["structure"], shown, rest)


def _frame(
    identity: str, name: str, structure: Mapping[str, Any], shown: Mapping[str, Any], rest: Mapping[str, Any]
) -> str:
    lattice = np.asarray(structure["lattice"], dtype=np.float64)
    positions = (np.asarray(structure["frac_coords"], dtype=np.float64) @ lattice).round(DECIMALS) + 0.0  # no "-0"
    numbers = " ".join(repr(x) for x in lattice.ravel().tolist())
    keys = " ".join(f"{key}={value}" for key, value in shown.items())
    record = json.dumps(rest, separators=(",", ":"))
    lines = [
        str(len(positions)),
        f'Lattice="{numbers}" Properties=species:S:1:pos:R:3 pbc="T T T"'
        f" candidate={_quote(identity)} frame={_quote(name)} {keys} record={_quote('_JSON ' + record)}",
        *(
            f"{symbol} {x:.{DECIMALS}f} {y:.{DECIMALS}f} {z:.{DECIMALS}f}"
            for symbol, (x, y, z) in zip(structure["species"], positions.tolist(), strict=True)
        ),
    ]
    return "\n".join(lines) + "\n"


def read_records(path: str | Path) -> list[Record]:
    """Read what `write_records` wrote.

    Positions come back to 1e-12 A, everything else exactly.

    Raises
    ------
    InputError
        The file is missing, is not such a file, or ends in the middle; the line is named.
    """
    path = Path(path)
    try:
        with gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else path.open(encoding="utf-8") as text:
            return _collect(path, text.read().split("\n"))
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file; give an extended XYZ file that a store exported") from error
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: damaged or not a text file ({error}); export it again") from error


def _collect(path: Path, lines: list[str]) -> list[Record]:
    records: dict[str, Record] = {}
    at = 0
    while at < len(lines) and lines[at].strip():
        try:
            size = int(lines[at])
            identity, name, structure, rest = _parse(lines[at + 1 : at + 2 + size], size)
            if name == RAW:
                if identity in records:
                    raise ValueError(f"candidate {identity!r} comes twice")
                records[identity] = {**rest, "structure": structure, "relaxations": {}}
            else:
                records[identity]["relaxations"][name] = {**rest, "structure": structure}
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            raise InputError(
                f"{path}, frame at line {at + 1}: not a frame of an exported store "
                f"({type(error).__name__}: {error}); export it again"
            ) from error
        at += size + 2
    if not records:
        raise InputError(f"{path}: holds no candidate; give a file that a store exported")
    return list(records.values())


def _parse(lines: list[str], size: int) -> tuple[str, str, Record, Record]:
    if len(lines) != size + 1:
        raise ValueError(f"the file ends after {max(len(lines) - 1, 0)} of {size} atoms")
    comment, *rows = lines
    parts = [pattern.search(comment) for pattern in (_LATTICE, _CANDIDATE, _FRAME, _RECORD)]
    if any(part is None for part in parts):
        raise ValueError("the comment line lacks Lattice, candidate, frame or record")
    lattice_text, identity, name, text = (part[1] for part in parts if part is not None)
    lattice = np.array(lattice_text.split(), dtype=np.float64).reshape(3, 3)
    fields = [row.split() for row in rows]
    positions = np.array([field[1:4] for field in fields], dtype=np.float64).reshape(size, 3)
    if not (np.isfinite(lattice).all() and np.isfinite(positions).all()):
        raise ValueError("a number is NaN or infinite")
    structure = {
        "lattice": lattice.tolist(),
        "species": [field[0] for field in fields],
        "frac_coords": (positions @ np.linalg.inv(lattice)).tolist(),
    }
    return _unquote(identity), _unquote(name), structure, json.loads(_unquote(text).removeprefix("_JSON "))


def _quote(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _unquote(text: str) -> str:
    return re.sub(r"\\(.)", r"\1", text)


def _word(name: str) -> str:
    return re.sub(r"\W", "_", name)

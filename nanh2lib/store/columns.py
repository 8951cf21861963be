"""Columns of the database: what candidates can be searched by, and which work is done for them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from pymatgen.io.ase import AseAtomsAdaptor

from nanh2lib.crystal.space_group import SpaceGroup
from nanh2lib.errors import InputError
from nanh2lib.store.codec import Record, labels_of, record_to_structure

FILTERS = ("method", "accepted", "space_group", "config_hash", "candidate_id")
"""What candidates can be selected by."""


def selection(filters: Mapping[str, Any]) -> list[tuple[str, str, Any]]:
    """ASE's comparisons from filters; values that are None do not filter.

    Raises
    ------
    InputError
        A filter is unknown.
    """
    unknown = sorted(set(filters) - set(FILTERS))
    if unknown:
        raise InputError(f"unknown filter {unknown[0]!r} of the store; known: {', '.join(FILTERS)}")
    chosen = {name: value for name, value in filters.items() if value is not None}
    if "config_hash" in chosen:
        chosen["config_hash"] = _as_word(chosen["config_hash"])
    if "candidate_id" in chosen:
        chosen["unique_id"] = chosen.pop("candidate_id")
    return [(name, "=", value) for name, value in chosen.items()]


def _as_word(text: str) -> str:
    """A hash that ASE cannot take for a number (it refuses strings such as "12" or "1e5")."""
    return f"hash-{text}"


def done_column(key: str) -> str:
    """Name of the column that tells whether a piece of work is done."""
    return f"done_{_word(key)}"


def done_mark(succeeded: bool, version: str = "") -> str:
    """What stands in it; empty where nothing was tried."""
    return f"{'ok' if succeeded else 'failed'}-{version}"


def key_values(record: Record) -> dict[str, Any]:
    """All columns of a record."""
    report, unit = record["report"], record["asymmetric_unit"]
    pairs: dict[str, Any] = {
        "method": record["method"],
        "accepted": report is not None and bool(report["passed"]),
        "config_hash": _as_word(record["config_hash"]),
        "seed": record["seed"],
        **energy_columns(record),
    }
    if unit is not None:
        pairs["space_group"] = SpaceGroup.from_hall(unit["template"]["hall_number"]).number
    for label in labels_of(record):
        if label.potential_hash:
            pairs[done_column(label.potential_hash)] = done_mark(label.value is not None)
    for name, succeeded in [(key, False) for key in record["failures"]] + [
        (key, True) for key in record["relaxations"]
    ]:
        pairs[done_column(name)] = done_mark(succeeded, record["versions"].get(name, ""))
    return pairs


def energy_columns(record: Record) -> dict[str, float]:
    """Columns with the energies, eV per formula unit."""
    return {
        f"ev_per_fu_{_word(label.potential)}": label.value for label in labels_of(record) if label.value is not None
    }


def row_of(record: Record) -> Any:
    """ASE row of the crystal, with the candidate's id as its unique id and nobody's user name."""
    from ase.db.core import now
    from ase.db.row import AtomsRow

    row = AtomsRow(AseAtomsAdaptor.get_atoms(record_to_structure(record["structure"]), msonable=False))
    row.unique_id, row.ctime, row.user = record["id"], now(), ""
    return row


def _word(name: str) -> str:
    return re.sub(r"[^0-9A-Za-z]", "_", name)

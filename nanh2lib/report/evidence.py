"""Committed evidence on Tables S1 and S2: long computations, done once and kept in the project as data.

``python -m benchmarks.published_tables`` makes all of it but the GPAW relaxations (scripts/gpaw_relaxations.py) and
the GPAW single points (see `reference_energies`).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from nanh2lib.errors import InputError
from nanh2lib.report.book import project_root
from nanh2lib.report.committed import read_committed

EVIDENCE_FOLDER = Path("benchmarks", "results", "published_tables")
"""In the checkout."""
FILES = {"gpaw_relaxed": Path("benchmarks", "results", "gpaw_relaxed.json")}
"""Evidence that stands elsewhere."""


def read_evidence(name: str, root: Path | None = None) -> dict[str, Any]:
    """Content of one file of evidence.

    Parameters
    ----------
    name : str
        ``"relaxed"``, ``"kicks"``, ``"confirmed"``, ``"summary"``, or ``"gpaw_relaxed"``.
    root : Path, optional
        The checkout; default: the one around the working directory or the package.

    Returns
    -------
    dict
        Empty where it was never made, or outside a checkout.

    Raises
    ------
    InputError
        The file is damaged.
    """
    try:
        path = (root or project_root()) / FILES.get(name, EVIDENCE_FOLDER / f"{name}.json")
    except InputError:
        return {}
    return read_committed(path, "a file of evidence", dict, {})

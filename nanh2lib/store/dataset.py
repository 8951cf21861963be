"""The shipped dataset: extended XYZ beside a manifest with its checksum, and first-principles energies.

How the entries were made is told in ``nanh2lib/data/DATASET.md``.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from pymatgen.core import Structure

from nanh2lib.errors import InputError
from nanh2lib.files import write_atomically
from nanh2lib.records import Candidate
from nanh2lib.store.candidate_store import CandidateStore
from nanh2lib.store.codec import Record, record_to_candidate
from nanh2lib.store.extxyz import read_records, write_records

DATASET_FILE = "dataset.xyz.gz"
MANIFEST_FILE = "dataset.json"
GPAW_FILE = "dataset_gpaw.json"
FRAMES = ("raw", "relaxed_fixed", "relaxed")
"""The crystals of an entry, by the names of the attributes that hold them (``raw``: ``structure``)."""


def data_directory() -> Path:
    """Folder of the package's data."""
    return Path(str(files("nanh2lib") / "data"))


def load_dataset(path: str | Path | None = None) -> tuple[Candidate, ...]:
    """The shipped dataset, or one that `write_dataset` wrote.

    Parameters
    ----------
    path : path, optional
        An extended XYZ file; its manifest, if there is one beside it, is checked. Default: the
        dataset of the package.

    Returns
    -------
    tuple of Candidate
        Each with ``structure`` (as the search left it), ``relaxed_fixed`` (rigid units, fixed cell),
        ``relaxed`` (all atoms and cell, space group kept; None for most), ``asymmetric_unit``,
        ``space_group_number`` and ``energies``: eV per formula unit of ``structure`` by potential
        name, ``gpaw`` among them where it was computed.

    Raises
    ------
    InputError
        The file is missing, damaged, or not the one that its manifest describes.
    """
    return _load(Path(path) if path is not None else data_directory() / DATASET_FILE)


@lru_cache(maxsize=2)
def _load(path: Path) -> tuple[Candidate, ...]:
    manifest = path.with_name(MANIFEST_FILE)
    if manifest.exists():
        _check_sum(path, read_manifest(manifest))
    first_principles = gpaw_energies(path.with_name(GPAW_FILE))
    entries = []
    for record in read_records(path):
        entry = record_to_candidate(record)
        if ("raw", entry.id) in first_principles:
            entry = entry.replace(energies={**entry.energies, "gpaw": first_principles["raw", entry.id]})
        entries.append(entry)
    return tuple(entries)


def frame_structure(entry: Candidate, frame: str) -> Structure:
    """One of the crystals of an entry.

    Parameters
    ----------
    entry : Candidate
    frame : str
        One of `FRAMES`.

    Raises
    ------
    InputError
        There is no such frame, or the entry lacks it.
    """
    if frame not in FRAMES:
        raise InputError(f"frame {frame!r} of an entry: choose from {', '.join(FRAMES)}")
    if frame == "raw":
        return entry.structure
    result = entry.relaxed_fixed if frame == "relaxed_fixed" else entry.relaxed
    if result is None:
        raise InputError(f"entry {entry.id} has no {frame} crystal; nanh2 dataset show tells how many have")
    return result.structure


def read_manifest(path: str | Path | None = None) -> dict[str, Any]:
    """What is said about a dataset: checksum, counts, command, configuration, versions, date.

    Raises
    ------
    InputError
        It is missing or is not JSON.
    """
    path = Path(path) if path is not None else data_directory() / MANIFEST_FILE
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: not a dataset's manifest ({error}); export the dataset again") from error


def _check_sum(path: Path, manifest: Mapping[str, Any]) -> None:
    try:
        found = hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); install the package again") from error
    if found != manifest.get("sha256"):
        raise InputError(
            f"{path}: SHA-256 {found[:16]}..., its manifest says {str(manifest.get('sha256'))[:16]}...; "
            "the file is damaged or was changed: install the package again, or export the dataset again"
        )


def gpaw_energies(path: str | Path | None = None) -> dict[tuple[str, str], float]:
    """First-principles energies of a dataset.

    Parameters
    ----------
    path : path, optional
        Default: those of the shipped dataset.

    Returns
    -------
    dict
        eV per formula unit by frame (one of `FRAMES`) and id; empty where there is no file.
    """
    path = Path(path) if path is not None else data_directory() / GPAW_FILE
    if not path.exists():
        return {}
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))["rows"].values()
        return {(row["frame"], row["id"]): float(row["ev_per_fu"]) for row in rows if "ev_per_fu" in row}
    except (OSError, ValueError, LookupError, AttributeError) as error:
        raise InputError(f"{path}: not a file of first-principles energies ({error}); remove it") from error


def write_dataset(records: Iterable[Record], path: str | Path, manifest: Mapping[str, Any]) -> Path:
    """Write entries as compressed extended XYZ with a manifest beside it.

    Of each entry the crystal of the search and its ``relaxed_fixed`` and ``relaxed`` are written;
    how many energy calls every stage took is kept in ``extra["evaluations"]``.

    Parameters
    ----------
    records : iterable of dict
        From `CandidateStore.records`; their labels and relaxations count as done where the file is
        imported into another store.
    path : path
        Name ending in ``.xyz.gz``.
    manifest : mapping
        What to say of it; the checksum and the number of entries are added.
    """
    path = Path(path)
    count = write_records(path, (_shipped(record) for record in records))
    content = {**manifest, "entries": count, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
    text = json.dumps(content, indent=1, sort_keys=True, allow_nan=False) + "\n"
    write_atomically(path.with_name(MANIFEST_FILE), text.encode())
    return path


def _shipped(record: Record) -> Record:
    relaxations = record["relaxations"]
    evaluations = {key: result["evaluations"] for key, result in relaxations.items()}
    last = {result["stage"]: key for key, result in relaxations.items()}
    kept = [last[stage] for stage in ("rigid_fixed", "all_atom") if stage in last]
    return {
        **record,
        "relaxations": {key: relaxations[key] for key in kept},
        "versions": {
            key: value for key, value in record["versions"].items() if key in kept or key in record["failures"]
        },
        "extra": {**record["extra"], "evaluations": {**record["extra"].get("evaluations", {}), **evaluations}},
    }


def dataset_store(url: str | Path, path: str | Path | None = None) -> CandidateStore:
    """A candidate store that holds a dataset; it is filled on first use.

    Parameters
    ----------
    url : str or path
        As for `CandidateStore`.
    path : path, optional
        The dataset's file; default: the shipped one.
    """
    store = CandidateStore(url)
    store.import_extxyz(path if path is not None else data_directory() / DATASET_FILE)
    return store

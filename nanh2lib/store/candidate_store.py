"""The store of candidates: what was found, where it came from, what is known of it."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

from nanh2lib.errors import InputError, StoreError
from nanh2lib.records import Candidate, RelaxationResult
from nanh2lib.store import extxyz
from nanh2lib.store.codec import (
    Label,
    Record,
    candidate_to_record,
    labels_of,
    plain,
    put_label,
    record_to_candidate,
    relaxation_to_record,
)
from nanh2lib.store.columns import done_column, done_mark, energy_columns, key_values, row_of, selection
from nanh2lib.store.connection import open_database, shown, transaction

BATCH = 500
"""Candidates per transaction (ASE commits by itself every 5000 operations; this stays below)."""


class CandidateStore:
    """Candidates in an ASE database, each once by its id.

    Every method that writes is one transaction: when it returns, the data are on disk; when it
    raises `StoreError`, nothing was changed. A killed process leaves neither locks nor halves.
    ``ase db store.db`` and other ASE tools can read the database; the id is its ``unique_id``.

    Parameters
    ----------
    url : str or path
        An SQLite file (the default), or ``postgresql://user:password@host/name``.
    create : bool
        Make the store if it is not there; else that is an error.

    Raises
    ------
    StoreError
        There is something else at that place, it is damaged, newer than this package, or cannot
        be reached. It is left as it was.
    MissingDependencyError
        PostgreSQL needs the extra ``scale``.
    """

    def __init__(self, url: str | Path, create: bool = True) -> None:
        self.url = str(url)
        self._database = open_database(self.url, create)
        self._lock = threading.RLock()

    def __enter__(self) -> CandidateStore:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing is held open between calls; the ``with`` block only says where the work ends."""

    def __repr__(self) -> str:
        return f"CandidateStore({shown(self.url)!r})"

    def __len__(self) -> int:
        return self.count()

    def __contains__(self, candidate_id: object) -> bool:
        return bool(self.ids(candidate_id=str(candidate_id)))

    # --- candidates -------------------------------------------------------------------------------

    def add(self, candidates: Candidate | Iterable[Candidate]) -> int:
        """Add candidates; one whose id is there already changes nothing.

        Parameters
        ----------
        candidates : Candidate or iterable of Candidate
            Accepted and rejected ones. Written `BATCH` at a time, each batch whole.

        Returns
        -------
        int
            How many were new.

        Raises
        ------
        InputError
            A candidate cannot be written (partly occupied sites, an ``extra`` without JSON form).
        """
        if isinstance(candidates, Candidate):
            candidates = [candidates]
        return sum(self._insert(batch) for batch in _batches(candidate_to_record(c) for c in candidates))

    def get(self, candidate_id: str) -> Candidate:
        """The candidate of that id.

        Raises
        ------
        InputError
            There is none.
        """
        with self._transaction(write=False) as database:
            return record_to_candidate(self._row(database, candidate_id).data["record"])

    def candidates(self, **filters: Any) -> Iterator[Candidate]:
        """Candidates in the order they were added.

        Parameters
        ----------
        **filters
            ``method``, ``accepted`` (bool), ``space_group`` (number), ``config_hash``.

        Yields
        ------
        Candidate
            The store may be written to meanwhile; what is added after the call is not seen.
        """
        for record in self._records(self._row_numbers(filters)):
            yield record_to_candidate(record)

    def records(self, **filters: Any) -> Iterator[Record]:
        """The same as plain JSON records, which also hold the hashes of labels and relaxation settings."""
        yield from self._records(self._row_numbers(filters))

    def ids(self, **filters: Any) -> list[str]:
        """Ids in the order they were added; filters as for `candidates`, or ``candidate_id``."""
        with self._transaction(write=False) as database:
            rows = database.select(selection(filters), columns=["id", "unique_id"], include_data=False, sort="id")
            return [row.unique_id for row in rows]

    def count(self, **filters: Any) -> int:
        """How many candidates there are; filters as for `candidates`."""
        with self._transaction(write=False) as database:
            return int(database.count(selection(filters)))

    # --- labels and relaxations -------------------------------------------------------------------

    def set_energy(self, candidate_id: str, potential: str, potential_hash: str, value: float) -> bool:
        """Write the energy of the unrelaxed structure.

        Parameters
        ----------
        candidate_id : str
        potential, potential_hash : str
            Name and `nanh2lib.energy.potentials.potential_hash`; one label for each pair.
        value : float
            eV per formula unit.

        Returns
        -------
        bool
            False where that label is there already (it is kept). A failure is replaced.

        Raises
        ------
        InputError
            The value is not finite (use `set_failure`), or there is no such candidate.
        """
        if not math.isfinite(value):
            raise InputError(f"energy of {candidate_id} at {potential}: {value}; set_failure takes the reason")
        label = Label(potential, potential_hash, float(value))
        mark = {done_column(potential_hash): done_mark(True)}
        return self._change(candidate_id, lambda record: put_label(record, label), mark)

    def set_failure(
        self, candidate_id: str, name: str, reason: str, potential_hash: str | None = None, version: str = ""
    ) -> bool:
        """Write why a number could not be computed.

        Parameters
        ----------
        candidate_id : str
        name : str
            A potential, or the key of a relaxation (``"stage:potential"``).
        reason : str
        potential_hash : str, optional
            For a label that failed; without it the failure is that of a relaxation.
        version : str
            For a relaxation, the hash of its settings.

        Returns
        -------
        bool
            False where a result stands there already (it is kept).
        """

        def change(record: Record) -> bool:
            if potential_hash is not None:
                return put_label(record, Label(name, potential_hash, None, reason))
            if name in record["relaxations"]:
                if record["versions"].get(name, "") == version:
                    return False
            else:
                record["versions"][name] = version
            record["failures"][name] = reason
            return True

        if potential_hash is not None:
            return self._change(candidate_id, change, {done_column(potential_hash): done_mark(False)})
        return self._change(candidate_id, change, {done_column(name): done_mark(False, version)})

    def set_relaxation(self, candidate_id: str, key: str, result: RelaxationResult, version: str = "") -> bool:
        """Write a relaxation.

        Parameters
        ----------
        candidate_id : str
        key : str
            ``"stage:potential"``.
        result : RelaxationResult
        version : str
            Hash of the settings that made it; a result of another version is replaced.

        Returns
        -------
        bool
            False where the same key and version is there already (it is kept).
        """
        entry = relaxation_to_record(result)

        def change(record: Record) -> bool:
            if key in record["relaxations"] and record["versions"].get(key, "") == version:
                return False
            record["relaxations"][key] = entry
            record["versions"][key] = version
            record["failures"].pop(key, None)
            return True

        return self._change(candidate_id, change, {done_column(key): done_mark(True, version)})

    def labels(self, candidate_id: str) -> tuple[Label, ...]:
        """All labels of a candidate with their hashes, failures among them, oldest first."""
        with self._transaction(write=False) as database:
            return labels_of(self._row(database, candidate_id).data["record"])

    def labels_at(self, potential_hash: str, **filters: Any) -> dict[str, Label]:
        """Labels that one potential, with one set of options, has made: failures among them.

        Parameters
        ----------
        potential_hash : str
        **filters
            As for `candidates`.

        Returns
        -------
        dict
            Label by candidate id, in the order the candidates were added.
        """
        column = done_column(potential_hash)
        with self._transaction(write=False) as database:
            rows = database.select(selection(filters), columns=["id", "key_value_pairs"], include_data=False, sort="id")
            numbers = [row.id for row in rows if column in row]
        return {
            record["id"]: label
            for record in self._records(numbers)
            for label in labels_of(record)
            if label.potential_hash == potential_hash
        }

    def pending(self, key: str, version: str = "", retry_failures: bool = False, **filters: Any) -> list[str]:
        """Ids of the candidates that a piece of work is still to be done for.

        Parameters
        ----------
        key : str
            The potential's hash for a label, ``"stage:potential"`` for a relaxation.
        version : str
            For a relaxation, the hash of its settings.
        retry_failures : bool
            Name those that failed, too.
        **filters
            As for `candidates`.
        """
        finished = {done_mark(True, version)} | (set() if retry_failures else {done_mark(False, version)})
        with self._transaction(write=False) as database:
            columns = ["id", "unique_id", "key_value_pairs"]
            rows = database.select(selection(filters), columns=columns, include_data=False, sort="id")
            return [row.unique_id for row in rows if row.get(done_column(key)) not in finished]

    # --- files ------------------------------------------------------------------------------------

    def export_extxyz(self, path: str | Path, **filters: Any) -> int:
        """Write candidates as extended XYZ, compressed where the name ends in ``.gz``.

        The same store gives the same bytes; the file appears whole or not at all.

        Returns
        -------
        int
            Candidates written.
        """
        try:
            return extxyz.write_records(path, self._records(self._row_numbers(filters)))
        except OSError as error:
            raise StoreError(f"{path}: cannot be written ({error.strerror}); check the path and the disk") from error

    def import_extxyz(self, path: str | Path) -> int:
        """Add the candidates of an exported file with all that is known of them.

        Returns
        -------
        int
            How many were new; those that are there already are not changed.

        Raises
        ------
        InputError
            The file is not an exported store; nothing was added.
        """
        return sum(self._insert(batch) for batch in _batches(extxyz.read_records(path)))

    # --- inside -----------------------------------------------------------------------------------

    @contextmanager
    def _transaction(self, write: bool) -> Iterator[Any]:
        with self._lock, transaction(self._database, self.url, write) as database:
            yield database

    def _insert(self, records: list[Record]) -> int:
        rows = [(record, row_of(record), key_values(record)) for record in records]
        added = 0
        with self._transaction(write=True) as database:
            for record, row, columns in rows:
                if database.count(selection({"candidate_id": record["id"]})):
                    continue
                try:
                    database.write(row, columns, data={"record": record})
                except ValueError as error:  # ASE: a method that reads as a number
                    raise InputError(f"candidate {record['id']}: {error}") from error
                added += 1
        return added

    def _change(self, candidate_id: str, change: Callable[[Record], bool], mark: Mapping[str, str]) -> bool:
        with self._transaction(write=True) as database:
            row = self._row(database, candidate_id)
            record = row.data["record"]
            if not change(record):
                return False
            database.update(row.id, data={"record": plain(record)}, **mark, **energy_columns(record))
            return True

    def _row(self, database: Any, candidate_id: str) -> Any:
        rows = list(database.select(selection({"candidate_id": candidate_id})))
        if not rows:
            raise InputError(f"{shown(self.url)}: no candidate {candidate_id!r}; see its ids()")
        return rows[0]

    def _row_numbers(self, filters: Mapping[str, Any]) -> list[int]:
        with self._transaction(write=False) as database:
            rows = database.select(selection(filters), columns=["id"], include_data=False, sort="id")
            return [row.id for row in rows]

    def _records(self, row_numbers: list[int]) -> Iterator[Record]:
        """Records of rows, read some at a time and handed out between transactions."""
        for start in range(0, len(row_numbers), BATCH):
            wanted = row_numbers[start : start + BATCH]
            with self._transaction(write=False) as database:
                span = [("id", ">=", wanted[0]), ("id", "<=", wanted[-1])]
                rows = list(database.select(span, sort="id"))
            kept = set(wanted)
            for row in rows:
                if row.id in kept:
                    yield row.data["record"]


def _batches(records: Iterable[Record]) -> Iterator[list[Record]]:
    batch: list[Record] = []
    for record in records:
        batch.append(record)
        if len(batch) == BATCH:
            yield batch
            batch = []
    if batch:
        yield batch

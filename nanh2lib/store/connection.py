"""Opening, checking and locking the ASE database under the store."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, parse_qs, unquote, urlsplit, urlunsplit

from nanh2lib.errors import MissingDependencyError, StoreError

SCHEMA = 1
"""Version of the records; raised when an older package could not read them."""

_MARK = "nanh2lib_store"
_SECRET_OPTIONS = ("password", "sslpassword")
_WRITE_LOCK = 7_064_228  # any number; the same for all writers of a PostgreSQL store


def is_postgresql(url: str) -> bool:
    """Whether the store is a server rather than a file."""
    return url.startswith(("postgresql://", "postgres://"))


def without_password(url: str) -> str:
    """The URL as it may be written down: everything but passwords.

    Raises
    ------
    StoreError
        The URL of a server cannot be taken apart; it is not repeated, as it may hold a password.
    """
    if not is_postgresql(url):
        return url
    parts = _parts(url)
    user, _, host = parts.netloc.rpartition("@")
    netloc = f"{user.partition(':')[0]}@{host}" if user else host
    query = "&".join(item for item in parts.query.split("&") if item.partition("=")[0] not in _SECRET_OPTIONS)
    return urlunsplit((parts.scheme, netloc, parts.path, query, ""))


def shown(url: str) -> str:
    """The URL without user, password and options, for messages."""
    if not is_postgresql(url):
        return url
    parts = _parts(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def _parts(url: str) -> SplitResult:
    """Parts of a server's URL, refused where a password with unescaped characters would end up elsewhere."""
    try:
        parts = urlsplit(url)
        good = parts.port is None or parts.port > 0
    except ValueError:
        good = False
    if not good or parts.netloc.count("@") > 1 or "@" in parts.path or "@" in parts.query or parts.fragment:
        raise StoreError(
            "store: not a URL like postgresql://user:password@host:port/name; write the characters @ : / ? # % "
            "of a password as %40 %3A %2F %3F %23 %25, or leave it to PGPASSWORD or ~/.pgpass"
        )
    return parts


def _secrets(url: str) -> set[str]:
    """What must not appear in a message: the passwords in a URL, as written and as meant."""
    if not is_postgresql(url):
        return set()
    parts = _parts(url)
    options = parse_qs(parts.query)
    written = [parts.password or "", *(value for name in _SECRET_OPTIONS for value in options.get(name, []))]
    return {word for text in written for word in (text, unquote(text)) if word}


def open_database(url: str, create: bool) -> Any:
    """ASE database of a store, made if it is not there.

    Raises
    ------
    StoreError
        There is none and ``create`` is false; or what is there is foreign, corrupt, of a newer
        version, or cannot be reached. It is left as it was.
    MissingDependencyError
        PostgreSQL needs the extra ``scale``.
    """
    if is_postgresql(url):
        return _open_server(url, create)
    path = Path(url)
    if not path.exists():
        if not create:
            raise StoreError(f"{url}: no candidate store there; make one with nanh2 search, or check the path")
        with as_store_error(url):
            path.parent.mkdir(parents=True, exist_ok=True)
            _create_file(path)
    _check_file(path)
    database = _connect(str(path), "db")
    with as_store_error(url):
        _check_mark(url, database.metadata)
    return database


def _connect(url: str, kind: str) -> Any:
    from ase.db import connect

    # ASE's own lock files stay behind when a process is killed, and block the next one for good.
    return connect(url, type=kind, use_lock_file=False)


def _create_file(path: Path) -> None:
    """Make a store beside its final name and move it there whole; another process may be faster."""
    scratch = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    scratch.unlink(missing_ok=True)
    try:
        _connect(str(scratch), "db").metadata = _new_mark()
        with contextlib.suppress(FileExistsError):
            os.link(scratch, path)
    finally:
        scratch.unlink(missing_ok=True)


def _new_mark() -> dict[str, Any]:
    return {_MARK: {"schema": SCHEMA}}


def _check_file(path: Path) -> None:
    """Refuse what is not an intact SQLite file, before ASE would write its tables into it."""
    way_out = "it is left as it is; give another path, or move it away"
    try:
        with path.open("rb") as file:
            start = file.read(16)
    except OSError as error:
        raise StoreError(f"{path}: cannot be read ({error.strerror}); check the path and its permissions") from error
    if start != b"SQLite format 3\x00":
        raise StoreError(f"{path}: not a candidate store (not an SQLite file); {way_out}")
    try:
        # Not read-only: a journal left by a killed writer has to be rolled back first.
        connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=rw", uri=True, timeout=20)
        with contextlib.closing(connection):
            verdict = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
            tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master")}
    except sqlite3.DatabaseError as error:
        raise StoreError(f"{path}: damaged ({error}); {way_out}, or restore a copy") from error
    if verdict != "ok":
        raise StoreError(f"{path}: damaged ({' '.join(verdict.split())}); {way_out}, or restore a copy")
    if not {"systems", "information"} <= tables:
        raise StoreError(f"{path}: an SQLite file, but not a candidate store; {way_out}")


def _check_mark(url: str, metadata: dict[str, Any]) -> None:
    mark = metadata.get(_MARK)
    if not isinstance(mark, dict):
        raise StoreError(f"{shown(url)}: an ASE database, but not a candidate store; give another one")
    if mark.get("schema") != SCHEMA:
        raise StoreError(
            f"{shown(url)}: a candidate store of version {mark.get('schema')}, this package reads {SCHEMA}; "
            "update nanh2lib, or export the store to extended XYZ with the version that wrote it"
        )


def _open_server(url: str, create: bool) -> Any:
    try:
        import psycopg2  # noqa: F401 - asked for here to say what to install

        database = _connect(url, "postgresql")
    except ImportError as error:
        raise MissingDependencyError(
            f"store {shown(url)}: {error}; install the extra scale: pip install 'nanh2lib[scale]'"
        ) from error
    with as_store_error(url):
        fresh = not _has_tables(url)
        if fresh and not create:
            raise StoreError(f"{shown(url)}: no candidate store there; make one with nanh2 search")
        # Empty tables without a mark: a first start that was killed between the two.
        if fresh or (_MARK not in database.metadata and database.count() == 0):
            database.metadata = _new_mark()
            database = _connect(url, "postgresql")  # ASE forgets the mark that it has just written
        _check_mark(url, database.metadata)
    return database


def _has_tables(url: str) -> bool:
    import psycopg2

    with contextlib.closing(psycopg2.connect(url)) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT to_regclass('systems') IS NOT NULL")
        return bool(cursor.fetchone()[0])


def _database_errors() -> tuple[type[BaseException], ...]:
    errors: tuple[type[BaseException], ...] = (sqlite3.Error, OSError)
    try:
        import psycopg2
    except ImportError:
        return errors
    return (*errors, psycopg2.Error)


@contextlib.contextmanager
def as_store_error(url: str) -> Iterator[None]:
    """Turn what databases and disks say into one clear StoreError."""
    try:
        yield
    except _database_errors() as error:
        text = " ".join(str(error).split())
        for secret in _secrets(url):
            text = text.replace(secret, "***")
        raise StoreError(f"{shown(url)}: {text}; nothing was changed: {_way_out(text)}") from error


def _way_out(text: str) -> str:
    hints = {
        "full": "free some disk space and run again",
        "space": "free some disk space and run again",
        "disk I/O": "check the disk (full? quota?) and run again",
        "readonly": "make the file and its folder writable, or copy it",
        "unable to open": "make the file and its folder writable, or copy it",
        "Permission": "make the file and its folder writable, or copy it",
        "locked": "another process is writing; run again when it is done",
        "password": "give the password in PGPASSWORD, ~/.pgpass or the URL",
        "onnect": "check that the server runs and the URL is right",
    }
    return next((hint for word, hint in hints.items() if word in text), "check the path and run again")


@contextlib.contextmanager
def transaction(database: Any, url: str, write: bool) -> Iterator[Any]:
    """One transaction: all of it is there afterwards, or none.

    Writers wait for each other (SQLite's file lock, an advisory lock in PostgreSQL); both locks
    end with their process, so that a killed one blocks nobody.
    """
    if not is_postgresql(url) and not Path(url).exists():
        raise StoreError(f"{url}: the store is gone (deleted or moved?); restore it, or start a new one")
    with as_store_error(url):
        database.__enter__()
        try:
            if write:
                _lock_for_writing(database.connection, is_postgresql(url))
            yield database
            database.connection.commit()
        finally:
            # Closing without a commit rolls back; ASE's own exit cannot do that for PostgreSQL.
            database.connection.close()
            database.connection = None


def _lock_for_writing(connection: Any, server: bool) -> None:
    cursor = connection.cursor()
    if server:
        cursor.execute("SELECT pg_advisory_xact_lock(?)", (_WRITE_LOCK,))
    else:
        cursor.execute("BEGIN IMMEDIATE")

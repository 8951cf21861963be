import json
import os
import signal
import sqlite3
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from nanh2lib.errors import MissingDependencyError, StoreError
from nanh2lib.store import CandidateStore
from nanh2lib.store.connection import as_store_error, shown, without_password
from tests.store.conftest import make_candidates

ROOT = Path(__file__).parents[2]


def python(script, *arguments, **options):
    """Another Python that runs ``script``."""
    command = [sys.executable, "-c", script, *map(str, arguments)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)


def test_a_store_that_must_exist_and_does_not(tmp_path):
    with pytest.raises(StoreError, match="no candidate store there; make one with nanh2 search"):
        CandidateStore(tmp_path / "none.db", create=False)
    assert list(tmp_path.iterdir()) == []


def not_a_database(path):
    path.write_text("some notes of mine\n")


def empty(path):
    path.touch()


def other_database(path):
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE recipes (name TEXT)")
    connection.commit()
    connection.close()


def other_ase_database(path):
    from ase import Atoms
    from ase.db import connect

    connect(path, use_lock_file=False).write(Atoms("H"))


def newer_store(path):
    from ase.db import connect

    CandidateStore(path)
    connect(path, use_lock_file=False).metadata = {"nanh2lib_store": {"schema": 99}}


def truncated(path):
    CandidateStore(path).add(make_candidates(20))
    path.write_bytes(path.read_bytes()[:20000])


def scrambled(path):
    CandidateStore(path).add(make_candidates(20))
    data = bytearray(path.read_bytes())
    for start in range(4096, len(data), 4096):
        data[start : start + 64] = b"\xff" * 64
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (not_a_database, "not an SQLite file.*give another path, or move it away"),
        (empty, "not a candidate store"),
        (other_database, "an SQLite file, but not a candidate store"),
        (other_ase_database, "an ASE database, but not a candidate store"),
        (newer_store, "version 99, this package reads 1; update nanh2lib"),
        (truncated, "damaged"),
        (scrambled, "damaged"),
    ],
)
def test_foreign_and_damaged_files_are_refused_and_left_as_they_are(tmp_path, make, words):
    path = tmp_path / "store.db"
    make(path)
    before = path.read_bytes()
    with pytest.raises(StoreError, match=words):
        CandidateStore(path)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["store.db"]


def test_a_folder_is_no_store(tmp_path):
    with pytest.raises(StoreError, match="cannot be read"):
        CandidateStore(tmp_path)


def test_a_store_that_was_deleted_meanwhile_is_not_made_anew_in_silence(tmp_path):
    path = tmp_path / "store.db"
    store = CandidateStore(path)
    path.unlink()
    with pytest.raises(StoreError, match="the store is gone"):
        store.add(make_candidates(1))
    assert not path.exists()


@pytest.mark.skipif(not hasattr(os, "seteuid"), reason="needs POSIX permissions")
def test_a_read_only_store_can_be_read_and_writing_says_why_not():
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        path = Path(folder) / "store.db"
        store = CandidateStore(path)
        store.add(make_candidates(2))
        before = path.read_bytes()
        path.chmod(0o444)
        Path(folder).chmod(0o555)
        user = os.geteuid()
        try:
            if user == 0:
                os.seteuid(65534)  # permissions do not hold root back
            assert len(CandidateStore(path)) == 2
            with pytest.raises(StoreError, match=r"readonly database.*make the file and its folder writable"):
                store.set_energy("c0000", "chgnet", "h", -18.0)
            with pytest.raises(StoreError, match="writable"):
                CandidateStore(Path(folder) / "new.db")
        finally:
            os.seteuid(user)
            Path(folder).chmod(0o755)
        assert path.read_bytes() == before


FULL_DISK = """
import resource, sys
from pathlib import Path
from nanh2lib.errors import StoreError
from nanh2lib.store import CandidateStore
from nanh2lib.store.connection import as_store_error, shown, without_password
from tests.store.conftest import make_candidates
store = CandidateStore(sys.argv[1])
more = make_candidates(60, prefix="m")
resource.setrlimit(resource.RLIMIT_FSIZE, (Path(sys.argv[1]).stat().st_size + 20000,) * 2)
try:
    store.add(more)
except StoreError as error:
    print(error)
"""


def test_a_full_disk_changes_nothing(tmp_path):
    path = tmp_path / "store.db"
    store = CandidateStore(path)
    store.add(make_candidates(5))
    output, errors = python(FULL_DISK, path).communicate(timeout=120)
    assert "nothing was changed" in output, errors
    assert store.ids() == [f"c{i:04d}" for i in range(5)]
    assert store.add(make_candidates(60, prefix="m")) == 60


WRITER = """
import sys
from nanh2lib.store import CandidateStore
from nanh2lib.store.connection import as_store_error, shown, without_password
from tests.store.conftest import make_candidates
store = CandidateStore(sys.argv[1])
store.add(make_candidates(60))
print("added", flush=True)
for candidate_id in store.pending("hash"):
    assert store.set_energy(candidate_id, "chgnet", "hash", -float(candidate_id[1:]))
    print(candidate_id, flush=True)
"""


def test_a_killed_writer_loses_nothing_and_the_rerun_repeats_nothing(url):
    writer = python(WRITER, url)
    said = [writer.stdout.readline().strip() for _ in range(12)]
    writer.send_signal(signal.SIGKILL)
    said += writer.stdout.read().split()
    writer.wait()
    assert said[0] == "added"
    store = CandidateStore(url)
    done = [c.id for c in store.candidates() if c.energies]
    assert set(said[1:]) <= set(done)
    assert len(done) <= len(said)  # at most the one in flight was not acknowledged
    assert 0 < len(done) < 60
    output, errors = python(WRITER, url).communicate(timeout=120)
    assert output.split() == ["added", *(c for c in store.ids() if c not in done)], errors
    assert all(c.energies == {"chgnet": -float(c.id[1:])} for c in store.candidates())
    assert all(len(store.labels(c)) == 1 for c in store.ids())


def test_a_writer_killed_inside_a_transaction_leaves_no_lock_and_no_half(tmp_path):
    path = tmp_path / "store.db"
    CandidateStore(path).add(make_candidates(3))
    script = """
import os, signal, sys
from nanh2lib.store import CandidateStore
from nanh2lib.store.columns import row_of
from nanh2lib.store.codec import candidate_to_record
from tests.store.conftest import make_candidates
store = CandidateStore(sys.argv[1])
with store._transaction(write=True) as database:
    for candidate in make_candidates(400, prefix="x"):
        record = candidate_to_record(candidate)
        database.write(row_of(record), {"method": "x"}, data={"record": record, "filler": "x" * 20000})
    print("inside", flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""
    process = python(script, path)
    output, errors = process.communicate(timeout=120)
    assert output.strip() == "inside", errors
    store = CandidateStore(path)
    assert store.ids() == ["c0000", "c0001", "c0002"]
    assert store.add(make_candidates(1, prefix="n")) == 1


TWO_WRITERS = """
import json, sys
from nanh2lib.store import CandidateStore
from nanh2lib.store.connection import as_store_error, shown, without_password
from tests.store.conftest import make_candidates
store = CandidateStore(sys.argv[1])
added = sum(store.add(candidate) for candidate in make_candidates(30))
labelled = sum(store.set_energy(i, "chgnet", "hash", -1.0) for i in store.ids())
print(json.dumps([added, labelled]))
"""


def test_two_writers_at_once_do_not_repeat_or_lose_anything(url):
    if url.startswith("postgresql"):
        CandidateStore(url)
    processes = [python(TWO_WRITERS, url) for _ in range(2)]
    outcomes = [process.communicate(timeout=120) for process in processes]
    counts = [json.loads(output) for output, _ in outcomes if output]
    assert len(counts) == 2, outcomes
    assert [sum(column) for column in zip(*counts, strict=True)] == [30, 30]
    assert len(CandidateStore(url)) == 30


@pytest.mark.parametrize(
    ("url", "shown_url", "written_url"),
    [
        ("store.db", "store.db", "store.db"),
        ("postgresql://me:pw@host:5432/name", "postgresql://host:5432/name", "postgresql://me@host:5432/name"),
        ("postgres://host/name", "postgres://host/name", "postgres://host/name"),
        ("postgresql://me:p%40w@/name?host=/tmp", "postgresql:///name", "postgresql://me@/name?host=/tmp"),
        ("postgresql://h/n?user=me&password=pw&sslpassword=x", "postgresql://h/n", "postgresql://h/n?user=me"),
    ],
)
def test_urls_are_shown_and_written_down_without_their_passwords(url, shown_url, written_url):
    assert shown(url) == shown_url
    assert without_password(url) == written_url


@pytest.mark.parametrize("password", ["s3cret/", "s3cret#", "s3cret?", "s3@cret", "/s3cret", "s3[cret"])
def test_a_password_with_unescaped_characters_is_refused_and_not_repeated(password):
    with pytest.raises(StoreError, match="as %40 %3A") as caught:
        CandidateStore(f"postgresql://me:{password}@host/name")
    assert "cret" not in str(caught.value)


def test_a_password_that_a_driver_repeats_is_hidden():
    url = "postgresql://me:p%40ss@host/name?sslpassword=phrase"
    with pytest.raises(StoreError, match=r"no entry for \*\*\* and \*\*\*") as caught, as_store_error(url):
        raise OSError("no entry for p@ss and phrase")
    assert "p@ss" not in str(caught.value)


@pytest.mark.scale
def test_a_server_that_is_not_there_and_a_database_of_others(postgresql_url):
    import psycopg2

    with pytest.raises(StoreError, match="check that the server runs") as caught:
        CandidateStore("postgresql://me:secret@localhost:1/nothing")
    assert "secret" not in str(caught.value)
    with pytest.raises(StoreError, match="no candidate store there"):
        CandidateStore(postgresql_url, create=False)
    with psycopg2.connect(postgresql_url) as connection:
        connection.cursor().execute("CREATE TABLE systems (id INTEGER)")
    with pytest.raises(StoreError):
        CandidateStore(postgresql_url)


def test_postgresql_without_its_driver_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "psycopg2", None)
    with pytest.raises(MissingDependencyError, match=r"install the extra scale: pip install 'nanh2lib\[scale\]'"):
        CandidateStore("postgresql://localhost/x")

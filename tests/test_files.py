"""Files appear whole or not at all."""

from __future__ import annotations

import os

import pytest

from nanh2lib.files import write_atomically


def test_a_file_is_written_with_its_folder(tmp_path):
    path = write_atomically(tmp_path / "new" / "a.txt", b"one")
    assert path.read_bytes() == b"one"
    assert write_atomically(path, b"two").read_bytes() == b"two"


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    path = write_atomically(tmp_path / "a.txt", b"old")

    def full_disk(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(OSError, match="No space"):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.txt"]

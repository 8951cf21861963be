"""Vendored files are the ones that their lists name, byte for byte."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = [ROOT / "book" / "_static" / "vendor", ROOT / "tests" / "vendor"]
ROW = re.compile(r"^\| `([^`]+)` \| ([^|]+) \| ([^|]+) \| `([0-9a-f]{64})` \|$", flags=re.M)


def listed(folder: Path) -> dict[str, str]:
    return {name: digest for name, _, _, digest in ROW.findall((folder / "README.md").read_text(encoding="utf-8"))}


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.parent.name)
def test_checksums(folder):
    rows = listed(folder)
    assert rows
    assert {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in rows} == rows


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.parent.name)
def test_no_file_is_unlisted(folder):
    licences = set(folder.rglob("*.txt"))
    present = {path for path in folder.rglob("*") if path.is_file()} - licences - {folder / "README.md"}
    assert {path.relative_to(folder).as_posix() for path in present} == set(listed(folder))


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.parent.name)
def test_each_row_names_package_version_and_licence(folder):
    text = (folder / "README.md").read_text(encoding="utf-8")
    for name, package, licence, _ in ROW.findall(text):
        assert re.search(r"\d+\.\d+", package) or package.strip() == "this project", name
        assert licence.strip(), name


def test_the_book_stays_small():
    size = sum(path.stat().st_size for path in FOLDERS[0].rglob("*") if path.is_file())
    assert size < 6_000_000

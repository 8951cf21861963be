"""The book's sources hang together: every reference is cited, every numbered equation is used."""

from __future__ import annotations

import re

import nbformat
import pytest

from tests.run_book import ROOT

PAGES = {path.name: path.read_text(encoding="utf-8") for path in sorted((ROOT / "book").glob("*.md"))}
NOTEBOOKS = {
    path.name: "\n".join(cell.source for cell in nbformat.read(str(path), as_version=4).cells)
    for path in sorted((ROOT / "notebooks").glob("[0-9]*.ipynb"))
}
TEXT = "\n".join([*PAGES.values(), *NOTEBOOKS.values()])
ENTRIES = re.findall(r"^@\w+\{(\w+),", (ROOT / "book" / "references.bib").read_text(encoding="utf-8"), re.M)
EQUATIONS = re.findall(r"^\$\$ \(([\w-]+)\)", TEXT, re.M)


@pytest.mark.parametrize("entry", ENTRIES)
def test_reference_is_cited(entry):
    cited = {key.strip() for keys in re.findall(r"\{cite\}`([^`]+)`", TEXT) for key in keys.split(",")}
    assert entry in cited


@pytest.mark.parametrize("label", EQUATIONS)
def test_equation_is_used(label):
    assert f"{{eq}}`{label}`" in TEXT


def test_labels_are_unique():
    assert len(EQUATIONS) > 25
    assert len(set(EQUATIONS)) == len(EQUATIONS)


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_figures_are_numbered_in_order(name):
    chapter = int(name[:2])
    numbers = [int(n) for n in re.findall(rf"Figure {chapter}\.(\d+)\.? ", NOTEBOOKS[name])]
    first = list(dict.fromkeys(numbers))
    assert first == list(range(1, len(first) + 1))

"""The address of the repository: launch buttons, install cells, citation, all from one command."""

from __future__ import annotations

import json
import shutil

import jsonschema
import nbformat
import pytest
import yaml

from nanh2lib.report.book_pages import launch_words
from scripts.set_repository import INSTALL_TAG, set_repository
from tests.notebook_rules import complaints
from tests.run_book import ROOT


@pytest.fixture
def checkout(tmp_path):
    for name in ("_config.yml", "CITATION.cff"):
        shutil.copy(ROOT / name, tmp_path / name)
    shutil.copytree(ROOT / "notebooks", tmp_path / "notebooks", ignore=shutil.ignore_patterns("*checkpoints"))
    return tmp_path


def test_address_reaches_buttons_install_cells_and_citation_and_can_be_replaced(checkout):
    set_repository(checkout, "https://github.com/first/try")
    set_repository(checkout, "https://github.com/owner/name", "book")
    config = yaml.safe_load((checkout / "_config.yml").read_text())
    before = yaml.safe_load((ROOT / "_config.yml").read_text())
    assert config.pop("repository") == {"url": "https://github.com/owner/name", "branch": "book"}
    assert set(config.pop("launch_buttons")) == {"notebook_interface", "binderhub_url", "colab_url"}
    assert config == {key: value for key, value in before.items() if key not in ("repository", "launch_buttons")}
    citation = yaml.safe_load((checkout / "CITATION.cff").read_text())
    assert citation["repository-code"] == "https://github.com/owner/name"
    schema = json.loads((ROOT / "tests" / "vendor" / "cff-1.2.0.schema.json").read_text())
    jsonschema.Draft7Validator(schema).validate(citation)
    for path in sorted((checkout / "notebooks").glob("*.ipynb")):
        cells = nbformat.read(str(path), as_version=4).cells
        (install,) = [cell for cell in cells if INSTALL_TAG in cell.metadata.get("tags", [])]
        assert cells[1] is install
        assert "git+https://github.com/owner/name@book" in install.source
        assert complaints(path) == complaints(ROOT / "notebooks" / path.name)


@pytest.mark.parametrize(
    "address", ["github.com/owner/name", "https://gitlab.com/owner/name", "https://github.com/owner"]
)
def test_an_address_that_colab_cannot_open_is_refused(checkout, address):
    before = (checkout / "_config.yml").read_text()
    with pytest.raises(SystemExit, match="no address that Colab can open"):
        set_repository(checkout, address)
    assert (checkout / "_config.yml").read_text() == before


def test_the_preface_says_that_nobody_has_tried_either():
    known = {"repository": {"url": "https://github.com/owner/name"}, "launch_buttons": {"colab_url": "https://..."}}
    for config in ({}, known):
        assert "Nobody has tried either yet" in launch_words(config)
    assert "no buttons" in launch_words({})
    assert "rocket" in launch_words(known)


def test_buttons_install_cells_and_citation_of_this_checkout_agree():
    """All of them, or none."""
    address = yaml.safe_load((ROOT / "_config.yml").read_text()).get("repository", {}).get("url")
    assert yaml.safe_load((ROOT / "CITATION.cff").read_text()).get("repository-code") == address
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        tagged = [c for c in nbformat.read(str(path), as_version=4).cells if INSTALL_TAG in c.metadata.get("tags", [])]
        assert len(tagged) == (address is not None)
        assert all(f"git+{address}@" in cell.source for cell in tagged)

"""The gallery's files: pictures, CIF, cards with alt text, and the data of the views that turn."""

from __future__ import annotations

import json
import re

import pytest
from PIL import Image
from pymatgen.core import Structure

from nanh2lib.errors import InputError
from nanh2lib.report.cif import published_cifs
from nanh2lib.report.gallery_page import GalleryEntry, write_gallery
from nanh2lib.report.live_views import live_scene
from nanh2lib.report.published import published_structure, reference_structure


@pytest.fixture(scope="module")
def entries():
    cifs = published_cifs()
    small = published_structure("S1-P21212")
    return [
        GalleryEntry("alpha", "alpha </script>", reference_structure("alpha"), ("46.4 A^3",), cifs["alpha"]),
        GalleryEntry(small.key, "S1 P2_12_12 (Z = 2)", small.structure, ("+30 meV", "found"), cifs[small.key]),
    ]


@pytest.fixture(scope="module")
def page(entries, tmp_path_factory):
    return write_gallery(tmp_path_factory.mktemp("run"), entries, "profile smoke, seed 0")


def test_each_crystal_has_picture_file_and_card(page, entries):
    text = page.read_text(encoding="utf-8")
    for entry in entries:
        with Image.open(page.parent.parent / "figures" / f"gallery-{entry.key}.png") as picture:
            assert picture.width == 640
        cif = page.parent.parent / "cifs" / f"{entry.key}.cif"
        assert Structure.from_file(cif).composition.reduced_formula == "NaH2N"
        assert f"<../results/cifs/{entry.key}.cif>" in text
    assert text.count("{grid-item-card}") == 2
    assert len(re.findall(r":alt: Ball-and-stick drawing of NaNH2, space group", text)) == 2
    assert "S1 P2₁2₁2 (Z = 2)" in text
    assert "profile smoke, seed 0" in text
    assert "+30 meV\\\nfound" in text


def test_views_come_with_the_page_and_cannot_end_its_script(page):
    text = page.read_text(encoding="utf-8")
    data = re.search(r'id="gallery-scenes">(.*?)</script>', text, re.S).group(1)
    scenes = json.loads(data)
    assert [scene["title"] for scene in scenes] == ["alpha </script>", "S1 P2₁2₁2 (Z = 2)"]
    assert all(scene["alt"].startswith("Ball-and-stick") for scene in scenes)


def test_a_scene_is_what_ngl_draws():
    scene = live_scene(reference_structure("alpha"))
    assert scene["pdb"].startswith("CRYST1    8.964   10.456    8.073")
    assert [name for name, _ in scene["representations"]] == ["licorice", "spacefill", "spacefill", "spacefill"]
    assert len(scene["edges"]) == 12
    assert len(scene["orientation"]) == 16
    json.dumps(scene, allow_nan=False)


def test_no_entries_or_two_of_one_name_are_refused(entries, tmp_path):
    for wrong in ([], [entries[0], entries[0]]):
        with pytest.raises(InputError, match="gallery"):
            write_gallery(tmp_path, wrong, "profile smoke, seed 0")

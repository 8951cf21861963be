"""The book's gallery page: pictures with downloads, and two crystals side by side as views that turn."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pymatgen.core import Structure

from nanh2lib.errors import InputError
from nanh2lib.files import write_atomically
from nanh2lib.report.html_table import typeset
from nanh2lib.report.live_views import live_scene
from nanh2lib.report.views import alt_text, structure_png

PICTURE_WIDTH = 320  # CSS pixels
GALLERY_TABLE = "gallery.md"
"""File in ``tables`` that the page includes."""


@dataclass(frozen=True)
class GalleryEntry:
    """One crystal of the gallery.

    Attributes
    ----------
    key : str
        Name of its files.
    title : str
        E.g. ``"S1 P2_1/c (Z = 4)"``.
    structure : Structure
    facts : tuple of str
        Lines under the picture: energies with their source.
    cif : str
        Text of the file offered for download.
    """

    key: str
    title: str
    structure: Structure
    facts: tuple[str, ...]
    cif: str


def write_gallery(directory: str | Path, entries: Sequence[GalleryEntry], source: str) -> Path:
    """Write pictures, CIF files and the page's text into the folder of a run.

    Parameters
    ----------
    directory : path
        Gets ``figures/gallery-KEY.png``, ``cifs/KEY.cif`` and ``tables/gallery.md``.
    entries : sequence of GalleryEntry
    source : str
        Which run made the numbers, in words.

    Returns
    -------
    Path
        ``tables/gallery.md``; every file in it appears complete or not at all.

    Raises
    ------
    InputError
        No entries, or two with one key.
    """
    folder = Path(directory)
    keys = [entry.key for entry in entries]
    if not keys or len(set(keys)) < len(keys):
        raise InputError(f"gallery: {len(keys)} entries with {len(set(keys))} different keys; give each its own")
    for name in ("figures", "cifs", "tables"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    cards, scenes = [], []
    for entry in entries:
        alt = alt_text(entry.structure)
        structure_png(entry.structure, folder / "figures" / f"gallery-{entry.key}.png", width=PICTURE_WIDTH)
        write_atomically(folder / "cifs" / f"{entry.key}.cif", entry.cif.encode())
        cards.append(_card(entry, alt))
        scenes.append({"title": typeset(entry.title), "alt": alt, "scene": live_scene(entry.structure)})
    note = f"*Numbers of the run that made this page: {source}.*"
    text = "\n".join([_compare_box(scenes), "## One by one", "", note, "", _grid(cards)])
    return write_atomically(folder / "tables" / GALLERY_TABLE, text.encode())


def _card(entry: GalleryEntry, alt: str) -> str:
    facts = "\\\n".join(typeset(fact) for fact in entry.facts)
    return "\n".join(
        [
            f":::{{grid-item-card}} {typeset(entry.title)}",
            f"```{{image}} ../results/figures/gallery-{entry.key}.png",
            f":alt: {alt}",
            f":width: {PICTURE_WIDTH}px",
            "```",
            "",
            facts,
            "",
            f"{{download}}`CIF ({entry.key}) <../results/cifs/{entry.key}.cif>`",
            ":::",
        ]
    )


def _grid(cards: Sequence[str]) -> str:
    head = ["::::{grid} 1 2 2 2", ":gutter: 3", ":class-container: nanh2-cards", ""]
    return "\n".join([*head, *cards, "::::", ""])


def _compare_box(scenes: Sequence[dict[str, Any]]) -> str:
    """Empty box that ``gallery.js`` fills, and what it fills it with."""
    data = json.dumps(scenes, ensure_ascii=False).replace("</", "<\\/")
    return "\n".join(
        [
            "```{raw} html",
            '<div class="nanh2-compare" id="gallery-compare"></div>',
            f'<script type="application/json" id="gallery-scenes">{data}</script>',
            "```",
            "",
        ]
    )

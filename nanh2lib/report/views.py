"""Crystals to look at: a static picture with alt text always, and a live view beside it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from nanh2lib.errors import InputError, MissingDependencyError
from nanh2lib.report.display import Gallery, GalleryItem, Picture
from nanh2lib.report.drawing import Camera, crystal_figure, figure_png, write_bytes
from nanh2lib.report.live_views import Crystal, live_view, pdb_text, structure_of
from nanh2lib.report.measurements import space_group_of
from nanh2lib.report.molecules import whole_molecules
from nanh2lib.report.published import PublishedStructure

__all__ = [
    "alt_text",
    "film_strip",
    "gallery",
    "live_view",
    "pdb_text",
    "show",
    "structure_png",
    "whole_molecules",
]

COLOR_NAMES = {
    "Na": "large orange spheres",
    "Li": "large pink spheres",
    "K": "large pink spheres",
    "N": "blue",
    "H": "small white",
}
SYSTEMS = (
    (2, "triclinic"),
    (15, "monoclinic"),
    (74, "orthorhombic"),
    (142, "tetragonal"),
    (167, "trigonal"),
    (194, "hexagonal"),
    (230, "cubic"),
)
WIDTH_BESIDE = 360  # CSS pixels: a picture with a live view beside it
FRAMES_IN_A_ROW = 3
PIXELS_PER_POINT = 2
"""Pictures are drawn at twice the shown width, so that they stay sharp on fine screens."""


def _number(value: float, digits: int) -> str:
    return f"{value:.{digits}f}"


def alt_text(crystal: Crystal, *, camera: Camera | None = None, symprec: float = 1e-2) -> str:
    """Describe the drawing of a crystal in words: composition, symmetry, cell, view and colours.

    Parameters
    ----------
    crystal : Structure, Candidate or PublishedStructure
    camera : Camera, optional
        As given to the drawing.
    symprec : float
        Tolerance of the space group, A.

    Returns
    -------
    str
        Two or three sentences, never empty.
    """
    structure = structure_of(crystal)
    group = space_group_of(structure, symprec)
    if group is None:
        symmetry, system = "no space group found", ""
    else:
        symmetry = f"space group {group[0]} (No. {group[1]})"
        system = next(name for last, name in SYSTEMS if group[1] <= last) + " "
    units = round(structure.composition.get_reduced_composition_and_factor()[1])
    formula = re.sub("H2N$", "NH2", structure.composition.reduced_formula)  # amides as chemists write them
    lengths = ", ".join(f"{axis} = {_number(v, 2)}" for axis, v in zip("abc", structure.lattice.abc, strict=True))
    names = ("alpha", "beta", "gamma")
    tilted = [
        f", {name} = {_number(angle, 1)} degrees"
        for name, angle in zip(names, structure.lattice.angles, strict=True)
        if abs(angle - 90) > 0.05
    ]
    axis = "abc"[(camera or Camera()).axis(structure)]
    present = {site.specie.symbol for site in structure}
    colors = ", ".join(f"{symbol} {word}" for symbol, word in COLOR_NAMES.items() if symbol in present)
    drawn = f" {colors}; molecules are drawn whole." if colors else ""
    return (
        f"Ball-and-stick drawing of {formula}, {symmetry}, {units} formula units ({len(structure)} atoms) in the "
        f"{system}cell {lengths} angstrom{''.join(tilted)}, seen about along {axis}.{drawn}"
    )


def structure_png(
    crystal: Crystal, path: str | Path | None = None, *, camera: Camera | None = None, width: int = 560
) -> bytes:
    """Draw a crystal as PNG, and write it where a path is given (in one step).

    Parameters
    ----------
    crystal : Structure, Candidate or PublishedStructure
    path : path, optional
    camera : Camera, optional
    width : int
        Shown width in CSS pixels; the PNG has twice as many.

    Returns
    -------
    bytes
    """
    figure = crystal_figure([structure_of(crystal)], camera=camera, width=PIXELS_PER_POINT * width)
    data = figure_png(figure)
    if path is not None:
        write_bytes(path, data)
    return data


def show(
    crystal: Crystal,
    *,
    caption: str | None = None,
    alt: str | None = None,
    live: bool = True,
    camera: Camera | None = None,
    width: int = 560,
) -> Picture:
    """Show a crystal: a static picture always, a live nglview view after it.

    Parameters
    ----------
    crystal : Structure, Candidate or PublishedStructure
    caption : str, optional
        Below the picture; of a published structure its table and title by default.
    alt : str, optional
        Replaces the generated alt text.
    live : bool
        Add the live view. Without nglview the picture stands alone and its caption says so.
    camera : Camera, optional
        Where it is seen from.
    width : int
        Shown width, CSS pixels, at most; with a live view beside it a picture is narrower.

    Returns
    -------
    Picture
        Displays itself in Jupyter and in the built book.
    """
    if caption is None:
        caption = f"Table {crystal.table}: {crystal.title}" if isinstance(crystal, PublishedStructure) else ""
    view = None
    if live:
        try:
            view = live_view(crystal, camera=camera, width=width)
        except MissingDependencyError:
            caption = f"{caption} (For a view that turns, install the extra: pip install 'nanh2lib[book]'.)".strip()
    text = alt if alt is not None else alt_text(crystal, camera=camera)
    shown = width if view is None else min(width, WIDTH_BESIDE)
    return Picture(structure_png(crystal, camera=camera, width=shown), text, caption, shown, view)


def film_strip(
    crystals: Sequence[Crystal],
    *,
    labels: Sequence[str] = (),
    caption: str = "",
    alt: str | None = None,
    camera: Camera | None = None,
    columns: int | None = None,
    width: int = 760,
) -> Picture:
    """Frames of one process side by side, e.g. a crystal while it is denoised.

    Parameters
    ----------
    crystals : sequence of Structure, Candidate or PublishedStructure
    labels : sequence of str
        Above each frame, e.g. ``"t = 500"``.
    caption : str
    alt : str, optional
        By default: the number of frames, the labels, and what the last one shows.
    camera : Camera, optional
        The same for all; by default along the last frame's shortest axis.
    columns : int, optional
        Frames in a row; by default at most three, and two by two of four.
    width : int
        Shown width, CSS pixels.

    Raises
    ------
    InputError
        No frame, or not one label for each.
    """
    if not crystals:
        raise InputError("film strip: no frames; give at least one structure")
    structures = [structure_of(crystal) for crystal in crystals]
    if camera is None:
        camera = Camera(along="abc"[Camera().axis(structures[-1])])
    figure = crystal_figure(
        structures,
        labels=labels,
        camera=camera,
        width=PIXELS_PER_POINT * width,
        columns=columns or (2 if len(structures) == 4 else min(len(structures), FRAMES_IN_A_ROW)),
        same_frame=True,
    )
    if alt is None:
        names = f" ({', '.join(labels)})" if labels else ""
        alt = f"Film strip of {len(structures)} frames{names}. Last frame: {alt_text(structures[-1], camera=camera)}"
    return Picture(figure_png(figure), alt, caption, width, strip=True)


def gallery(
    crystals: Mapping[str, Crystal],
    *,
    notes: Mapping[str, str] | None = None,
    cifs: Mapping[str, str] | None = None,
    width: int = 300,
    compare: bool = True,
) -> Gallery:
    """Put crystals in a grid with titles, notes, CIF downloads and a side-by-side comparison.

    Parameters
    ----------
    crystals : mapping
        By title; titles are also the file names of the CIFs.
    notes : mapping, optional
        By title: energy, source.
    cifs : mapping, optional
        By title: CIF text; of those missing, one is made.
    width : int
        Shown width of each, CSS pixels.
    compare : bool
        Add the two menus.

    Raises
    ------
    InputError
        A note or CIF belongs to no crystal.
    """
    notes, cifs = notes or {}, cifs or {}
    stray = sorted((set(notes) | set(cifs)) - set(crystals))
    if stray:
        raise InputError(f"gallery: no crystal is called {stray[0]!r}; choose from {', '.join(crystals)}")
    items = []
    for title, crystal in crystals.items():
        picture = Picture(structure_png(crystal, width=width), alt_text(crystal), "", width)
        group = space_group_of(structure_of(crystal))
        symmetry = "no space group" if group is None else f"{group[0]} (No. {group[1]})"
        note = "; ".join(part for part in (symmetry, notes.get(title, "")) if part)
        cif = cifs.get(title) or str(structure_of(crystal).to(fmt="cif"))
        items.append(GalleryItem(title, picture, note, cif, f"{_file_stem(title)}.cif"))
    return Gallery(items, compare)


def _file_stem(title: str) -> str:
    kept = [character if character.isalnum() or character in "-_." else "_" for character in title]
    return "".join(kept).strip("_") or "structure"


def step_frames(crystals: Sequence[Crystal], count: int) -> list[int]:
    """Indices of ``count`` frames spread evenly over a trajectory, first and last among them."""
    if not crystals or count < 1:
        raise InputError(f"{len(crystals)} structures, {count} frames: give at least one of each")
    return sorted({int(k) for k in np.round(np.linspace(0, len(crystals) - 1, min(count, len(crystals))))})

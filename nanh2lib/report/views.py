"""Crystals to look at: a static picture with alt text always, and a live view beside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pymatgen.core import Lattice, Structure

from nanh2lib.errors import InputError, MissingDependencyError
from nanh2lib.records import Candidate
from nanh2lib.report.display import Gallery, GalleryItem, Picture
from nanh2lib.report.drawing import (
    CELL_EDGES,
    CORNERS,
    EDGE_COLOR,
    EDGE_RADIUS,
    ELEMENT_COLORS,
    OTHER_COLOR,
    STICK_RADIUS,
    Camera,
    crystal_figure,
    drawn_atoms,
    element_radius,
    extent_of,
    figure_png,
    write_bytes,
)
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

Crystal = Structure | Candidate | PublishedStructure
COLOR_NAMES = {"Na": "large orange spheres", "N": "blue", "H": "small white"}
SYSTEMS = (
    (2, "triclinic"),
    (15, "monoclinic"),
    (74, "orthorhombic"),
    (142, "tetragonal"),
    (167, "trigonal"),
    (194, "hexagonal"),
    (230, "cubic"),
)
NGL_FIELD_OF_VIEW = 40.0  # degrees, NGL's own
VIEW_MARGIN = 0.6  # A
NARROWEST_VIEW = 330  # CSS pixels: a live view opens so that the cell fits a phone
WIDTH_BESIDE = 360  # CSS pixels: a picture with a live view beside it
FRAMES_IN_A_ROW = 3
PIXELS_PER_POINT = 2
"""Pictures are drawn at twice the shown width, so that they stay sharp on fine screens."""


def _structure(crystal: Crystal) -> Structure:
    return crystal if isinstance(crystal, Structure) else crystal.structure


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
    structure = _structure(crystal)
    group = space_group_of(structure, symprec)
    if group is None:
        symmetry, system = "no space group found", ""
    else:
        symmetry = f"space group {group[0]} (No. {group[1]})"
        system = next(name for last, name in SYSTEMS if group[1] <= last) + " "
    units = round(structure.composition.get_reduced_composition_and_factor()[1])
    formula = "NaNH2" if structure.composition.reduced_formula == "NaH2N" else structure.composition.reduced_formula
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
    figure = crystal_figure([_structure(crystal)], camera=camera, width=PIXELS_PER_POINT * width)
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


def pdb_text(crystal: Crystal) -> str:
    """Crystal as PDB text for the live view: cell record, the atoms that a picture shows, one residue a molecule.

    The cell lies with a along x and b in the xy plane, as the format wants it.
    """
    structure = _in_standard_axes(_structure(crystal))
    drawn = drawn_atoms(structure)
    cart = drawn.frac_coords @ structure.lattice.matrix
    a, b, c, alpha, beta, gamma = structure.lattice.parameters
    lines = [f"CRYST1{a:9.3f}{b:9.3f}{c:9.3f}{alpha:7.2f}{beta:7.2f}{gamma:7.2f} P 1           1"]
    for serial, (site, molecule, (x, y, z)) in enumerate(zip(drawn.sites, drawn.molecules, cart, strict=True), 1):
        symbol = structure[site].specie.symbol.upper()
        lines.append(
            f"HETATM{serial:5d} {symbol:<4s} UNK A{molecule + 1:4d}    {x:8.3f}{y:8.3f}{z:8.3f}  1.00  0.00"
            f"          {symbol:>2s}"
        )
    return "\n".join([*lines, "END"]) + "\n"


def _in_standard_axes(structure: Structure) -> Structure:
    lattice = Lattice.from_parameters(*structure.lattice.parameters, vesta=True)
    return Structure(lattice, structure.species, structure.frac_coords)


def _orientation(structure: Structure, camera: Camera, aspect: float) -> list[float]:
    """NGL's 16 numbers, column by column: rotation times camera distance, and minus the centre.

    NGL's camera stands on the negative z axis, hence the half turn about y.
    """
    low, high = extent_of(structure, camera)
    rotation = camera.rotation(structure)
    half = (high - low) / 2 + VIEW_MARGIN
    distance = max(half[1], half[0] / aspect) / np.tan(np.radians(NGL_FIELD_OF_VIEW / 2))
    matrix = np.eye(4)
    matrix[:3, :3] = distance * np.diag([-1.0, 1.0, -1.0]) @ rotation
    matrix[:3, 3] = -rotation.T @ ((low + high) / 2)
    return [float(value) for value in matrix.T.ravel()]


def _cell_edges(structure: Structure) -> list[tuple[str, list[float], list[float], list[float], float]]:
    """The twelve edges of the cell as NGL cylinders."""
    placed = (np.array(CORNERS, dtype=float) @ structure.lattice.matrix).tolist()
    color = [float(value) for value in EDGE_COLOR]
    return [("cylinder", placed[i], placed[j], color, EDGE_RADIUS) for i, j in CELL_EDGES]


def _nglview() -> Any:
    """Import nglview without the empty output that its first import leaves in a notebook."""
    from IPython.utils.capture import capture_output

    try:
        with capture_output():
            import nglview
    except ImportError as error:
        raise MissingDependencyError("live views need nglview; install it: pip install 'nanh2lib[book]'") from error
    return nglview


def live_view(crystal: Crystal, *, camera: Camera | None = None, width: int = 560, height: int = 340) -> Any:
    """Build an nglview widget: ball and stick for molecules, spheres for ions, the cell, centred.

    Parameters
    ----------
    crystal : Structure, Candidate or PublishedStructure
    camera : Camera, optional
        The view opens as the static picture is seen.
    width, height : int
        CSS pixels.

    Returns
    -------
    nglview.NGLWidget

    Raises
    ------
    MissingDependencyError
        nglview is not installed.
    """
    nglview = _nglview()
    structure = _in_standard_axes(_structure(crystal))
    text = nglview.TextStructure(pdb_text(structure), ext="pdb")
    view = nglview.NGLWidget(text, default_representation=False)
    view.layout.width, view.layout.height, view.layout.max_width = "100%", f"{height}px", f"{width}px"
    view.camera = "orthographic"
    view.stage.set_parameters(clipDist=0, clipNear=0, fogNear=60, fogFar=100, backgroundColor="white")
    symbols = {site.specie.symbol: bool(site.specie.is_metal) for site in structure}
    molecular = " or ".join(f"_{symbol.upper()}" for symbol, metal in symbols.items() if not metal)
    if molecular:
        view.add_licorice(selection=molecular, radius=STICK_RADIUS, multipleBond="off", color="#c9ced6")
    for symbol in symbols:
        view.add_spacefill(
            selection=f"_{symbol.upper()}",
            radiusType="size",
            radius=element_radius(symbol),
            color=ELEMENT_COLORS.get(symbol, OTHER_COLOR),
        )
    # Not add_unitcell(): its colour is fixed, and it is the orange of the Na spheres.
    view._add_shape(_cell_edges(structure), name="unitcell")
    # center() alone is lost in a built page: nglview does not store it with the widget; the orientation is.
    view._set_camera_orientation(_orientation(structure, camera or Camera(), NARROWEST_VIEW / height))
    return view


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
        Frames in a row, at most three by default.
    width : int
        Shown width, CSS pixels.

    Raises
    ------
    InputError
        No frame, or not one label for each.
    """
    if not crystals:
        raise InputError("film strip: no frames; give at least one structure")
    structures = [_structure(crystal) for crystal in crystals]
    if camera is None:
        camera = Camera(along="abc"[Camera().axis(structures[-1])])
    figure = crystal_figure(
        structures,
        labels=labels,
        camera=camera,
        width=PIXELS_PER_POINT * width,
        columns=columns or min(len(structures), FRAMES_IN_A_ROW),
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
        group = space_group_of(_structure(crystal))
        symmetry = "no space group" if group is None else f"{group[0]} (No. {group[1]})"
        note = "; ".join(part for part in (symmetry, notes.get(title, "")) if part)
        cif = cifs.get(title) or str(_structure(crystal).to(fmt="cif"))
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

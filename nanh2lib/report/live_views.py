"""Live views: a crystal as NGL draws it, in notebooks (nglview) and on pages of their own script."""

from __future__ import annotations

from typing import Any

import numpy as np
from pymatgen.core import Lattice, Structure

from nanh2lib.errors import MissingDependencyError
from nanh2lib.records import Candidate
from nanh2lib.report.drawing import (
    CELL_EDGES,
    CORNERS,
    EDGE_COLOR,
    EDGE_RADIUS,
    ELEMENT_COLORS,
    OTHER_COLOR,
    STICK_RADIUS,
    Camera,
    drawn_atoms,
    element_radius,
    extent_of,
)
from nanh2lib.report.published import PublishedStructure

Crystal = Structure | Candidate | PublishedStructure
NGL_FIELD_OF_VIEW = 40.0  # degrees, NGL's own
VIEW_MARGIN = 0.6  # A
NARROWEST_VIEW = 330  # CSS pixels: a live view opens so that the cell fits a phone
HEIGHT = 340  # CSS pixels
STICK_COLOR = "#c9ced6"


def structure_of(crystal: Crystal) -> Structure:
    """The full crystal behind any of the three."""
    return crystal if isinstance(crystal, Structure) else crystal.structure


def pdb_text(crystal: Crystal) -> str:
    """Crystal as PDB text for the live view: cell record, the atoms that a picture shows, one residue a molecule.

    The cell lies with a along x and b in the xy plane, as the format wants it.
    """
    structure = _in_standard_axes(structure_of(crystal))
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


def _representations(structure: Structure) -> list[tuple[str, dict[str, Any]]]:
    """What is drawn how: sticks in molecules, a sphere for each atom; names and options as NGL takes them."""
    symbols = {site.specie.symbol: bool(site.specie.is_metal) for site in structure}
    molecular = " or ".join(f"_{symbol.upper()}" for symbol, metal in symbols.items() if not metal)
    sticks = {"sele": molecular, "radius": STICK_RADIUS, "multipleBond": "off", "color": STICK_COLOR}
    drawn: list[tuple[str, dict[str, Any]]] = [("licorice", sticks)] if molecular else []
    for symbol in symbols:
        sphere = {"sele": f"_{symbol.upper()}", "radiusType": "size", "radius": element_radius(symbol)}
        drawn.append(("spacefill", {**sphere, "color": ELEMENT_COLORS.get(symbol, OTHER_COLOR)}))
    return drawn


def live_scene(crystal: Crystal, *, camera: Camera | None = None) -> dict[str, Any]:
    """All that a page's own script needs to draw a crystal with NGL, as JSON values.

    Parameters
    ----------
    crystal : Structure, Candidate or PublishedStructure
    camera : Camera, optional
        The view opens as the static picture is seen.

    Returns
    -------
    dict
        ``pdb`` (text), ``representations`` (pairs of name and options), ``edges`` (start, end, colour, radius of
        each edge of the cell, A), ``orientation`` (NGL's 16 numbers).
    """
    structure = _in_standard_axes(structure_of(crystal))
    orientation = _orientation(structure, camera or Camera(), NARROWEST_VIEW / HEIGHT)
    return {
        "pdb": pdb_text(structure),
        "representations": [[name, options] for name, options in _representations(structure)],
        "edges": [[np.round(x, 4).tolist() for x in edge[1:]] for edge in _cell_edges(structure)],
        "orientation": np.round(orientation, 5).tolist(),
    }


def live_view(crystal: Crystal, *, camera: Camera | None = None, width: int = 560, height: int = HEIGHT) -> Any:
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
    structure = _in_standard_axes(structure_of(crystal))
    text = nglview.TextStructure(pdb_text(structure), ext="pdb")
    view = nglview.NGLWidget(text, default_representation=False)
    view.layout.width, view.layout.height, view.layout.max_width = "100%", f"{height}px", f"{width}px"
    view.camera = "orthographic"
    view.stage.set_parameters(clipDist=0, clipNear=0, fogNear=60, fogFar=100, backgroundColor="white")
    for name, options in _representations(structure):
        getattr(view, f"add_{name}")(selection=options.pop("sele"), **options)
    # Not add_unitcell(): its colour is fixed, and it is the orange of the Na spheres.
    view._add_shape(_cell_edges(structure), name="unitcell")
    # center() alone is lost in a built page: nglview does not store it with the widget; the orientation is.
    view._set_camera_orientation(_orientation(structure, camera or Camera(), NARROWEST_VIEW / height))
    return view

"""Static pictures of crystals: ball and stick, whole molecules, cell edges, axes and a legend."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from ase.data import atomic_numbers, covalent_radii
from matplotlib import patheffects
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray
from PIL import Image
from pymatgen.core import Structure

from nanh2lib.errors import InputError
from nanh2lib.files import write_atomically
from nanh2lib.report.molecules import find_molecules
from nanh2lib.report.render import Scene, Window, render

FloatArray = NDArray[np.float64]

ELEMENT_COLORS = {
    "H": "#f5f5f5",
    "Li": "#cc79a7",
    "C": "#4d4d4d",
    "N": "#0072b2",
    "O": "#d55e00",
    "Na": "#e69f00",
    "Cl": "#009e73",
    "K": "#cc79a7",
    "Rb": "#56b4e9",
}
"""Okabe-Ito colours: told apart with any kind of colour vision, and by size besides."""
OTHER_COLOR = "#b0b0b0"
EDGE_COLOR = np.array(to_rgb("#5a6270"))
BACKGROUND = "#ffffff"
TEXT_COLOR = "#1f2430"
STICK_RADIUS, EDGE_RADIUS = 0.13, 0.032  # A
BOUNDARY = 0.02  # fraction of a cell: atoms this near to a face are drawn on the opposite face too
MARGIN = 0.75  # A
CORNERS = tuple(np.ndindex(2, 2, 2))
"""Corners of a cell in fractional coordinates."""
CELL_EDGES = tuple((i, j) for i in range(8) for j in range(i) if (i ^ j).bit_count() == 1)
"""Pairs of corners that an edge joins: their numbers differ in one binary digit."""
MAX_SCALE = 0.115  # of the width, pixels per A: a small cell does not fill the page with few atoms


@dataclass(frozen=True)
class Camera:
    """Where a crystal is seen from.

    Attributes
    ----------
    along : str or None
        ``"a"``, ``"b"``, ``"c"``: axis that points (about) at the viewer; None: the shortest.
    turn, tilt : float
        Degrees by which the crystal is then turned about the vertical and tilted forward.
    """

    along: str | None = None
    turn: float = 11.0
    tilt: float = 9.0

    def axis(self, structure: Structure) -> int:
        """Index of the axis that points at the viewer.

        Raises
        ------
        InputError
            ``along`` is none of a, b, c.
        """
        if self.along is None:
            return int(np.argmin(np.round(structure.lattice.abc, 3)))
        if self.along not in ("a", "b", "c"):
            raise InputError(f"along={self.along!r} is no axis; choose a, b or c")
        return "abc".index(self.along)

    def rotation(self, structure: Structure) -> FloatArray:
        """Rows are the camera's right, up and towards-the-viewer directions, shape (3, 3)."""
        view = self.axis(structure)
        lattice = structure.lattice.matrix
        others = [k for k in range(3) if k != view]
        toward = lattice[view] / np.linalg.norm(lattice[view])
        flat = [lattice[k] - (lattice[k] @ toward) * toward for k in others]
        if np.linalg.norm(flat[1]) > np.linalg.norm(flat[0]) + 1e-3:
            flat.reverse()
        right = flat[0] / np.linalg.norm(flat[0])
        up = np.cross(toward, right)
        if up @ flat[1] < 0:
            toward, up = -toward, -up
        turn, tilt = np.radians(self.turn), np.radians(self.tilt)
        about_up = np.array([[np.cos(turn), 0, np.sin(turn)], [0, 1, 0], [-np.sin(turn), 0, np.cos(turn)]])
        forward = np.array([[1, 0, 0], [0, np.cos(tilt), -np.sin(tilt)], [0, np.sin(tilt), np.cos(tilt)]])
        return np.asarray(forward @ about_up @ np.stack([right, up, toward]))


def element_color(symbol: str) -> FloatArray:
    """RGB of an element, shape (3,)."""
    return np.array(to_rgb(ELEMENT_COLORS.get(symbol, OTHER_COLOR)))


def element_radius(symbol: str) -> float:
    """Drawn radius in A: ions (metals) larger, H smaller, all well below contact."""
    if symbol == "H":
        return 0.24
    return float(0.30 + 0.22 * covalent_radii[atomic_numbers[symbol]])


@dataclass(frozen=True)
class DrawnAtoms:
    """Atoms as they are drawn: molecules whole, copies on opposite cell faces.

    Attributes
    ----------
    frac_coords : ndarray, shape (m, 3)
    sites : tuple of int
        Index in the structure of each.
    molecules : tuple of int
        Drawn molecule of each.
    bonds : tuple of (int, int)
        Rows of ``frac_coords``.
    """

    frac_coords: FloatArray
    sites: tuple[int, ...]
    molecules: tuple[int, ...]
    bonds: tuple[tuple[int, int], ...]


def drawn_atoms(structure: Structure) -> DrawnAtoms:
    """List what is drawn of a crystal."""
    whole = find_molecules(structure)
    mass = np.array([site.specie.Z for site in structure])
    positions: list[FloatArray] = []
    sites: list[int] = []
    molecules: list[int] = []
    bonds: list[tuple[int, int]] = []
    for molecule in range(int(whole.molecule.max()) + 1):
        members = np.flatnonzero(whole.molecule == molecule)
        heavy = whole.frac_coords[members[np.argmax(mass[members])]]
        options = [[0, 1] if x < BOUNDARY else ([0, -1] if x > 1 - BOUNDARY else [0]) for x in heavy]
        for shift in np.stack(np.meshgrid(*options, indexing="ij"), axis=-1).reshape(-1, 3):
            rows = {int(atom): len(positions) + k for k, atom in enumerate(members)}
            positions += list(whole.frac_coords[members] + shift)
            sites += [int(atom) for atom in members]
            molecules += [molecules[-1] + 1 if molecules else 0] * len(members)
            bonds += [
                (rows[bond.first], rows[bond.second])
                for bond in whole.bonds
                if bond.first in rows and bond.image == (0, 0, 0)
            ]
    return DrawnAtoms(np.array(positions), tuple(sites), tuple(molecules), tuple(bonds))


def _scene(structure: Structure, rotation: FloatArray) -> tuple[Scene, FloatArray]:
    """Scene in camera coordinates and the low and high corners of it, (2, 3)."""
    lattice = structure.lattice.matrix
    drawn = drawn_atoms(structure)
    points = drawn.frac_coords @ lattice @ rotation.T
    scene = Scene()
    symbols = [structure[site].specie.symbol for site in drawn.sites]
    for point, symbol in zip(points, symbols, strict=True):
        scene.spheres.append((point, element_radius(symbol), element_color(symbol)))
    for first, second in drawn.bonds:
        middle = (points[first] + points[second]) / 2
        scene.sticks.append((points[first], middle, STICK_RADIUS, element_color(symbols[first])))
        scene.sticks.append((middle, points[second], STICK_RADIUS, element_color(symbols[second])))
    placed = np.array(CORNERS, dtype=float) @ lattice @ rotation.T
    for i, j in CELL_EDGES:
        scene.sticks.append((placed[i], placed[j], EDGE_RADIUS, EDGE_COLOR))
    for corner in placed:
        scene.spheres.append((corner, EDGE_RADIUS, EDGE_COLOR))
    everything = np.concatenate([points, placed])
    return scene, np.stack([everything.min(axis=0), everything.max(axis=0)])


def extent_of(structure: Structure, camera: Camera | None = None) -> FloatArray:
    """Low and high corner in camera coordinates of what would be drawn, shape (2, 3), A."""
    return _scene(structure, (camera or Camera()).rotation(structure))[1]


def draw_crystal(
    structure: Structure,
    *,
    camera: Camera | None = None,
    width: int = 1120,
    max_height: int = 1120,
    extent: FloatArray | None = None,
) -> tuple[FloatArray, Window, FloatArray]:
    """Ray-cast one crystal without text.

    Parameters
    ----------
    structure : Structure
    camera : Camera, optional
    width, max_height : int
        Pixels; the height follows from the crystal.
    extent : ndarray, shape (2, 3), optional
        Corners of the part to show (see :func:`extent_of`); all of the crystal by default.

    Returns
    -------
    image : ndarray, shape (height, width, 3)
    window : Window
    rotation : ndarray, shape (3, 3)
        From Cartesian to camera coordinates.
    """
    camera = camera or Camera()
    rotation = camera.rotation(structure)
    scene, corners = _scene(structure, rotation)
    low, high = corners if extent is None else extent
    size = high - low + 2 * MARGIN
    scale = min(width / size[0], max_height / size[1], MAX_SCALE * width)
    height = int(np.ceil(size[1] * scale))
    left = (low[0] + high[0]) / 2 - width / scale / 2
    window = Window(float(left), float(low[1] - MARGIN), width, height, float(scale))
    return render(scene, window, np.array(to_rgb(BACKGROUND))), window, rotation


def _axis_letters(
    axes: Axes, structure: Structure, image: FloatArray, window: Window, rotation: FloatArray, size: float
) -> None:
    """Write o, a, b, c beside the ends of the cell edges, where the picture is emptiest."""
    lattice = structure.lattice.matrix @ rotation.T
    center = window.to_pixels(lattice.sum(axis=0) / 2)
    outline = [patheffects.withStroke(linewidth=size / 4, foreground=BACKGROUND)]
    busy = np.abs(image - np.array(to_rgb(BACKGROUND))).max(axis=-1) > 0.02
    for letter, vector in zip("oabc", np.vstack([np.zeros(3), lattice]), strict=True):
        column, row = _free_place(busy, window.to_pixels(vector), center, reach=2.3 * size)
        axes.text(
            column, row, letter, ha="center", va="center", fontsize=size, style="italic", color=TEXT_COLOR,
            path_effects=outline, zorder=5,
        )  # fmt: skip


def _free_place(busy: NDArray[np.bool_], corner: FloatArray, center: FloatArray, reach: float) -> tuple[float, float]:
    """Pixel around ``corner`` with the least drawn about it; outward from ``center`` among equals."""
    outward = float(np.arctan2(corner[1] - center[1], corner[0] - center[0]))
    best, place = np.inf, (float(corner[0]), float(corner[1]))
    half = 0.62 * reach
    for step in range(24):
        angle = outward + (step + 1) // 2 * (1 if step % 2 else -1) * np.pi / 12
        x, y = corner[0] + reach * np.cos(angle), corner[1] + reach * np.sin(angle)
        rows, columns = slice(max(int(y - half), 0), int(y + half)), slice(max(int(x - half), 0), int(x + half))
        patch = busy[rows, columns]
        inside = half <= x <= busy.shape[1] - half and half <= y <= busy.shape[0] - half
        cost = (float(patch.mean()) if patch.size else 0.0) + 0.02 * step + (0.0 if inside else 2.0)
        if cost < best:
            best, place = cost, (float(x), float(y))
    return place


def _legend_handles(structures: Sequence[Structure], size: float) -> list[Line2D]:
    symbols = {site.specie.symbol: site.specie.Z for structure in structures for site in structure}
    return [
        Line2D(
            [], [], linestyle="none", marker="o", label=symbol, markerfacecolor=tuple(element_color(symbol)),
            markeredgecolor=TEXT_COLOR, markeredgewidth=size / 14, markersize=size * (0.45 + element_radius(symbol)),
        )
        for symbol in sorted(symbols, key=lambda symbol: -symbols[symbol])
    ]  # fmt: skip


def crystal_figure(
    structures: Sequence[Structure],
    *,
    labels: Sequence[str] = (),
    camera: Camera | None = None,
    width: int = 1120,
    columns: int | None = None,
    same_frame: bool = False,
) -> Figure:
    """Figure of one or more crystals side by side, with axis letters and one element legend.

    Parameters
    ----------
    structures : sequence of Structure
    labels : sequence of str
        Written above each.
    camera : Camera, optional
        The same for all.
    width : int
        Pixels of the whole figure (drawn at 160 dpi).
    columns : int, optional
        Crystals in a row; all of them by default.
    same_frame : bool
        One scale and one window for all, for frames of one process.

    Raises
    ------
    InputError
        No structure, or not one label for each.
    """
    if not structures or (labels and len(labels) != len(structures)):
        raise InputError(f"{len(structures)} structures and {len(labels)} labels: give one label for each or none")
    dpi = 160
    columns = columns or len(structures)
    each = width // columns
    extent = None
    if same_frame:
        extents = np.array([extent_of(structure, camera) for structure in structures])
        extent = np.stack([extents[:, 0].min(axis=0), extents[:, 1].max(axis=0)])
    drawn = [
        draw_crystal(s, camera=camera, width=each, max_height=round(0.82 * each), extent=extent) for s in structures
    ]
    rows = [drawn[k : k + columns] for k in range(0, len(drawn), columns)]
    font = float(np.clip(each / 46, 9.5, 13))
    head = round(font * 1.9 * dpi / 72) if labels else 0
    foot = round(max(font, 8.5) * 2.1 * dpi / 72)
    heights = [max(image.shape[0] for image, _, _ in row) + head for row in rows]
    total = sum(heights) + foot
    figure = Figure(figsize=(width / dpi, total / dpi), dpi=dpi, facecolor=BACKGROUND)
    top = 0
    for r, row in enumerate(rows):
        for k, (image, window, rotation) in enumerate(row):
            blank = (heights[r] - head - image.shape[0]) // 2
            bottom = total - top - head - blank - image.shape[0]
            axes = figure.add_axes((k * each / width, bottom / total, each / width, image.shape[0] / total))
            axes.imshow(image, interpolation="none")
            axes.set_axis_off()
            _axis_letters(axes, structures[r * columns + k], image, window, rotation, font)
            if labels:
                x, y = (k + 0.5) * each / width, 1 - (top + head / 2) / total
                figure.text(x, y, labels[r * columns + k], ha="center", va="center", fontsize=font, color=TEXT_COLOR)
        top += heights[r]
    figure.legend(
        handles=_legend_handles(structures, max(font, 8.5)), loc="lower center", ncols=8, frameon=False,
        fontsize=max(font, 8.5), labelcolor=TEXT_COLOR, handletextpad=0.2, columnspacing=1.6,
        borderaxespad=0.3,
    )  # fmt: skip
    return figure


def figure_png(figure: Figure, *, colors: int | None = 256) -> bytes:
    """PNG of a figure at its own dpi.

    Parameters
    ----------
    figure : Figure
    colors : int or None
        Palette size (smaller files); None keeps full colour.
    """
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    image = Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3])
    if colors is not None:
        palette = image.quantize(colors, method=Image.Quantize.MEDIANCUT)
        image = image.quantize(palette=palette, dither=Image.Dither.FLOYDSTEINBERG)
        entries = list(image.getpalette() or [])
        white = int(np.asarray(image)[0, 0])  # the paper, which the palette's averages leave a shade too dark
        entries[3 * white : 3 * white + 3] = [255, 255, 255]
        image.putpalette(entries)
    stream = io.BytesIO()
    image.save(stream, "PNG", optimize=True)
    return stream.getvalue()


def write_bytes(path: str | Path, data: bytes) -> Path:
    """Write a file in one step (it appears complete or not at all).

    Raises
    ------
    InputError
        The place cannot be written.
    """
    try:
        return write_atomically(path, data)
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error}); choose another place") from error

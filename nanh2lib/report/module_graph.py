"""The package's module graph, read from its import statements and drawn as a picture."""

from __future__ import annotations

import ast
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from nanh2lib.errors import InputError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PACKAGE = "nanh2lib"
Graph = dict[str, frozenset[str]]

_BOX = (0.86, 0.56)  # width and height of a box, in steps of the grid


def import_graph(package_dir: str | Path | None = None) -> Graph:
    """Which part of the package imports which.

    A part is a module or sub-package right below the package (``crystal``, ``store``, ...).
    Imports inside functions count like those at the top of a file.

    Parameters
    ----------
    package_dir : path, optional
        Folder of the package; that of the running nanh2lib when left out.

    Returns
    -------
    dict
        For each part the other parts that it imports.

    Raises
    ------
    InputError
        The folder holds no Python module.
    """
    root = Path(package_dir) if package_dir is not None else Path(__file__).resolve().parent.parent
    graph: dict[str, set[str]] = {}
    for path in sorted(root.rglob("*.py")):
        relative = path.relative_to(root)
        part = relative.parts[0].removesuffix(".py")
        if part == "__init__":  # the list of public names stands above all parts
            continue
        graph.setdefault(part, set()).update(_imported_parts(path) - {part})
    if not graph:
        raise InputError(f"{root}: no Python modules here")
    return {part: frozenset(imported & graph.keys()) for part, imported in graph.items()}


def _imported_parts(path: Path) -> set[str]:
    parts: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"), filename=str(path))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            names = [node.module] if node.module != PACKAGE else [f"{PACKAGE}.{a.name}" for a in node.names]
        else:
            continue
        parts.update(name.split(".")[1] for name in names if name.startswith(f"{PACKAGE}."))
    return parts


def levels(graph: Mapping[str, frozenset[str]]) -> dict[str, int]:
    """Height of each part: 0 imports nothing, else one more than the highest part it imports.

    Raises
    ------
    InputError
        Parts import each other in a circle.
    """
    heights: dict[str, int] = {}

    def height(part: str, above: tuple[str, ...]) -> int:
        if part in above:
            raise InputError(f"import circle: {' -> '.join((*above[above.index(part) :], part))}")
        if part not in heights:
            heights[part] = max((height(below, (*above, part)) + 1 for below in graph[part]), default=0)
        return heights[part]

    for part in graph:
        height(part, ())
    return heights


def without_shortcuts(graph: Mapping[str, frozenset[str]]) -> Graph:
    """Transitive reduction: leave out an arrow that a longer way already tells."""
    below: dict[str, frozenset[str]] = {}
    for part in sorted(graph, key=levels(graph).__getitem__):
        below[part] = frozenset().union(graph[part], *(below[imported] for imported in graph[part]))
    return {
        part: frozenset(low for low in imported if not any(low in below[other] for other in imported))
        for part, imported in graph.items()
    }


def draw_module_graph(path: str | Path, graph: Mapping[str, frozenset[str]] | None = None) -> Path:
    """Draw the graph, users above what they use, and write it where ``path`` says (.svg, .png, .pdf).

    Arrows that follow from others are left out.

    Parameters
    ----------
    path : path
        File to write.
    graph : mapping, optional
        As from `import_graph`, which it defaults to.

    Returns
    -------
    Path
    """
    from matplotlib.figure import Figure

    graph = import_graph() if graph is None else graph
    heights = levels(graph)
    rows: dict[int, list[str]] = {}
    for part in sorted(graph):
        rows.setdefault(heights[part], []).append(part)
    place = {
        part: (index - (len(row) - 1) / 2, float(height))
        for height, row in rows.items()
        for index, part in enumerate(row)
    }
    widest = max(len(row) for row in rows.values())
    figure = Figure(figsize=(1.7 * widest + 0.6, 0.8 * len(rows) + 0.2), layout="constrained")
    axes = figure.add_subplot()
    for part, imported in without_shortcuts(graph).items():
        for below in sorted(imported):
            _arrow(axes, place[part], place[below])
    for part, (x, y) in place.items():
        axes.text(x, y, part, ha="center", va="center", fontsize=13, color="#1a1a1a", zorder=3, family="monospace")
        _box(axes, x, y)
    axes.set(xlim=(-widest / 2 - 0.1, widest / 2 + 0.1), ylim=(-0.5, max(rows) + 0.5))
    axes.set_axis_off()
    target = Path(path)
    temporary = target.with_name(f".{target.stem}.tmp{target.suffix}")
    # no date and fixed ids: the same code draws the same file
    import matplotlib as mpl

    with mpl.rc_context({"svg.hashsalt": PACKAGE}):
        metadata = {"Date": None} if target.suffix == ".svg" else None
        figure.savefig(temporary, facecolor="white", metadata=metadata)
    os.replace(temporary, target)
    return target


def _arrow(axes: Axes, start: tuple[float, float], end: tuple[float, float]) -> None:
    """Curved where it passes rows in between, so that it does not run behind their boxes."""
    (x0, y0), (x1, y1) = start, end
    bend = 0.0 if y0 - y1 < 1.5 else (0.28 if x0 >= x1 else -0.28)
    axes.annotate(
        "",
        xy=(x1, y1 + _BOX[1] / 2),
        xytext=(x0, y0 - _BOX[1] / 2),
        arrowprops={
            "arrowstyle": "-|>",
            "color": "#5a6b7b",
            "linewidth": 1.0,
            "shrinkA": 0,
            "shrinkB": 0,
            "connectionstyle": f"arc3,rad={bend}",
        },
        zorder=1,
    )


def _box(axes: Axes, x: float, y: float) -> None:
    from matplotlib.patches import FancyBboxPatch

    width, height = _BOX
    axes.add_patch(
        FancyBboxPatch(
            (x - width / 2, y - height / 2),
            width,
            height,
            boxstyle="round,pad=0,rounding_size=0.08",
            facecolor="#e8f1fa",
            edgecolor="#34567a",
            zorder=2,
        )
    )

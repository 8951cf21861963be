"""The one style of all figures: light and dark, Okabe-Ito colours, readable sizes."""

from __future__ import annotations

import functools
import io
import re
import textwrap
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from importlib.resources import as_file, files
from typing import Any, ParamSpec

import matplotlib
import numpy as np
from matplotlib import style as mpl_style
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter, StrMethodFormatter
from numpy.typing import ArrayLike, NDArray

from nanh2lib.errors import InputError
from nanh2lib.report.display import ThemedFigure

P = ParamSpec("P")
FloatArray = NDArray[np.float64]

OKABE_ITO = {
    "blue": "#0072b2",
    "orange": "#e69f00",
    "green": "#009e73",
    "vermillion": "#d55e00",
    "sky": "#56b4e9",
    "purple": "#cc79a7",
    "yellow": "#f0e442",
}
"""Colours that remain apart with any kind of colour vision (Okabe and Ito 2008)."""
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "*")
DASHES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 1)))
THEMES = ("light", "dark")
_UPRIGHT = 3  # letters: names of guide lines up to this long are not turned

_theme: ContextVar[str] = ContextVar("plot_theme", default="light")


class ReportFigure(Figure):
    """A matplotlib figure that shows itself in Jupyter without pyplot's state."""

    def svg(self) -> bytes:
        """The figure as SVG, with fonts as paths and no date in it."""
        stream = io.BytesIO()
        with matplotlib.rc_context({"svg.hashsalt": "nanh2lib"}):
            self.savefig(stream, format="svg", metadata={"Date": None})
        return stream.getvalue()

    def png(self, dpi: float = 160) -> bytes:
        """The figure as PNG."""
        stream = io.BytesIO()
        self.savefig(stream, format="png", dpi=dpi)
        return stream.getvalue()

    def _repr_png_(self) -> bytes:
        return self.png()


@contextmanager
def plot_theme(theme: str) -> Iterator[None]:
    """Draw figures in this block in ``"light"`` (default elsewhere) or ``"dark"``.

    Raises
    ------
    InputError
        No such theme.
    """
    if theme not in THEMES:
        raise InputError(f"no plot theme {theme!r}; choose from {', '.join(THEMES)}")
    token = _theme.set(theme)
    try:
        yield
    finally:
        _theme.reset(token)


def current_theme() -> str:
    """Name of the theme in force."""
    return _theme.get()


@contextmanager
def _stylesheets() -> Iterator[None]:
    folder = files("nanh2lib.report")
    with (
        as_file(folder / "base.mplstyle") as base,
        as_file(folder / f"{_theme.get()}.mplstyle") as sheet,
        mpl_style.context([base, sheet], after_reset=True),
    ):
        yield


def styled(plot: Callable[P, ReportFigure]) -> Callable[P, ReportFigure]:
    """Make a figure function draw under the style sheets of the theme in force."""

    @functools.wraps(plot)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> ReportFigure:
        with _stylesheets():
            figure = plot(*args, **kwargs)
            FigureCanvasAgg(figure).draw()  # lays everything out while the style holds
            return figure

    return wrapper


def themed(
    plot: Callable[..., ReportFigure], *args: Any, alt: str, caption: str = "", width: int = 640, **kwargs: Any
) -> ThemedFigure:
    """Draw a figure twice, for light and dark pages, with alt text and caption.

    Parameters
    ----------
    plot : callable
        A figure function of this package.
    *args, **kwargs
        Its arguments.
    alt : str
        What the figure shows, in words: never empty.
    caption : str
    width : int
        Shown width, CSS pixels.

    Returns
    -------
    ThemedFigure
        Displays itself in Jupyter and in the built book.

    Raises
    ------
    InputError
        The alt text is empty.
    """
    images = []
    for theme in THEMES:
        with plot_theme(theme), _stylesheets():
            images.append(plot(*args, **kwargs).svg())
    return ThemedFigure(images[0], images[1], alt, caption, width)


def new_figure(
    width: float = 6.4, height: float = 3.9, rows: int = 1, columns: int = 1, **kwargs: Any
) -> tuple[ReportFigure, list[Axes]]:
    """Empty figure with its axes as a flat list; sizes in inches."""
    figure = ReportFigure(figsize=(width, height), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False, **kwargs)
    return figure, list(axes.ravel())


def cycle_colors(count: int) -> list[str]:
    """First ``count`` colours of the style in force, repeated as needed."""
    cycle = [str(color) for color in matplotlib.rcParams["axes.prop_cycle"].by_key()["color"]]
    return [cycle[k % len(cycle)] for k in range(count)]


def folded(name: str, longest: int = 28) -> str:
    """A row's name in lines of at most ``longest`` letters: a narrow page has room for the row itself."""
    return textwrap.fill(name, longest)


def ink() -> str:
    """Colour of text and axes in the style in force."""
    return str(matplotlib.rcParams["text.color"])


def quiet() -> str:
    """Colour of guide lines in the style in force."""
    return str(matplotlib.rcParams["grid.color"])


def plain_log(axis: Axis) -> None:
    """Plain numbers on a logarithmic axis: 0.1, 1, 10, and between the powers of ten where it is short.

    Parameters
    ----------
    axis : Axis
        Of axes whose scale is logarithmic and whose data are drawn; left as it is beyond five powers of ten.
    """
    low, high = sorted(axis.get_view_interval())
    if not 0 < low < high < 1e5 * low:
        return
    locator = MaxNLocator(5) if high < 4 * low else LogLocator(subs=(1.0, 2.0, 5.0) if high < 100 * low else (1.0,))
    axis.set_major_locator(locator)
    axis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axis.set_minor_formatter(NullFormatter())


def guide_line(axes: Axes, *, x: float | None = None, y: float | None = None, label: str = "") -> None:
    """Draw a dashed line with its name written at its end."""
    if x is not None:
        axes.axvline(x, color=ink(), linewidth=1.0, linestyle="--", alpha=0.7, zorder=1)
        axes.annotate(
            label, (x, 1.0), xycoords=("data", "axes fraction"), xytext=(4, -3), textcoords="offset points",
            rotation=90 if len(label) > _UPRIGHT else 0, va="top", ha="left", fontsize="small",
        )  # fmt: skip
    if y is not None:
        axes.axhline(y, color=ink(), linewidth=1.0, linestyle="--", alpha=0.7, zorder=1)
        axes.annotate(
            label, (1.0, y), xycoords=("axes fraction", "data"), xytext=(-4, 3), textcoords="offset points",
            va="bottom", ha="right", fontsize="small",
        )  # fmt: skip


def symbol_text(symbol: str) -> str:
    """Space-group symbol as mathtext: screw axes as subscripts, inversion axes with a bar.

    Examples
    --------
    >>> symbol_text("P2_1/c")
    '$P2_{1}/c$'
    """
    text = re.sub(r"-(\d)", r"\\bar{\1}", symbol)
    subscripted = re.sub(r"_(\d)", r"_{\1}", text)
    return f"${subscripted}$"


def spread(positions: Sequence[float], gap: float) -> FloatArray:
    """Move label positions apart to at least ``gap``, keeping their order and, nearly, their mean."""
    values = np.asarray(positions, dtype=float)
    order = np.argsort(values, kind="stable")
    placed = values[order].copy()
    for _ in range(200):
        overlap = gap - np.diff(placed)
        if overlap.max(initial=0.0) <= 1e-9:
            break
        push = np.clip(overlap, 0.0, None) / 2
        placed[:-1] -= push
        placed[1:] += push
    result = np.empty_like(values)
    result[order] = placed
    return result


def finite_array(values: ArrayLike, name: str, *, dimensions: int = 1) -> FloatArray:
    """Numbers as a float array.

    Raises
    ------
    InputError
        Empty, of another dimension, or with NaN or infinite entries.
    """
    array = np.asarray(values, dtype=float)
    if array.ndim != dimensions or array.size == 0:
        raise InputError(f"{name}: expected {dimensions}-dimensional data with entries, got shape {array.shape}")
    if not np.isfinite(array).all():
        bad = int((~np.isfinite(array)).sum())
        raise InputError(f"{name}: {bad} of {array.size} values are NaN or infinite; leave them out and say so")
    return array

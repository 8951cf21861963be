"""A small ray-caster for spheres and sticks: orthographic, shaded, with a true depth buffer (NumPy only)."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]

LIGHT = np.array([-0.45, 0.65, 0.75])
AMBIENT, DIFFUSE, WRAP, SPECULAR, SHININESS = 0.46, 0.58, 0.35, 0.30, 40.0
FOG = 0.38
"""Share of the background mixed into the farthest atoms."""
OUTLINE_STEP = 0.18
"""A; a depth jump above this draws a dark outline on the nearer object."""
OUTLINE_COLOR = np.array([0.13, 0.15, 0.19])


@dataclass
class Scene:
    """Spheres and sticks in camera coordinates: x right, y up, z towards the viewer, A.

    Attributes
    ----------
    spheres : list of (center (3,), radius, color (3,))
        Colours are RGB in [0, 1].
    sticks : list of (start (3,), end (3,), radius, color (3,))
    """

    spheres: list[tuple[FloatArray, float, FloatArray]] = field(default_factory=list)
    sticks: list[tuple[FloatArray, FloatArray, float, FloatArray]] = field(default_factory=list)


@dataclass(frozen=True)
class Window:
    """Part of the camera plane that is drawn.

    Attributes
    ----------
    left, bottom : float
        Lower left corner, A.
    width, height : int
        Pixels.
    scale : float
        Pixels per A.
    """

    left: float
    bottom: float
    width: int
    height: int
    scale: float

    def to_pixels(self, points: FloatArray) -> FloatArray:
        """Pixel columns and rows (row 0 on top) of camera points (..., 2 or 3)."""
        column = (points[..., 0] - self.left) * self.scale
        row = self.height - (points[..., 1] - self.bottom) * self.scale
        return np.stack([column, row], axis=-1)


class _Canvas:
    """Depth and colour buffers; ``paint`` keeps what is nearest."""

    def __init__(self, window: Window, background: FloatArray) -> None:
        shape = (window.height, window.width)
        self.window = window
        self.depth = np.full(shape, -np.inf)
        self.color = np.broadcast_to(background, (*shape, 3)).copy()
        self.x = window.left + (np.arange(window.width) + 0.5) / window.scale
        self.y = window.bottom + (window.height - np.arange(window.height) - 0.5) / window.scale

    def box(self, low: FloatArray, high: FloatArray) -> tuple[slice, slice] | None:
        """Rows and columns that can show something between two corners, or None."""
        w = self.window
        first, last = ((corner[0] - w.left) * w.scale for corner in (low, high))
        bottom, top = ((corner[1] - w.bottom) * w.scale for corner in (low, high))
        columns = slice(max(int(first) - 1, 0), min(int(last) + 2, w.width))
        rows = slice(max(int(w.height - top) - 1, 0), min(int(w.height - bottom) + 2, w.height))
        if columns.start >= columns.stop or rows.start >= rows.stop:
            return None
        return rows, columns

    def paint(self, place: tuple[slice, slice], depth: FloatArray, normal: FloatArray, color: FloatArray) -> None:
        """Shade where ``depth`` (NaN outside the object) is nearer than what is there."""
        seen = np.nan_to_num(depth, nan=-np.inf) > self.depth[place]
        self.depth[place][seen] = depth[seen]
        self.color[place][seen] = _shade(normal[seen], color)


def _shade(normal: FloatArray, color: FloatArray) -> FloatArray:
    light = LIGHT / np.linalg.norm(LIGHT)
    halfway = (light + np.array([0.0, 0.0, 1.0])) / np.linalg.norm(light + np.array([0.0, 0.0, 1.0]))
    diffuse = np.clip((normal @ light + WRAP) / (1 + WRAP), 0.0, None)[:, None]  # soft terminator
    specular = SPECULAR * np.clip(normal @ halfway, 0.0, None)[:, None] ** SHININESS
    return np.asarray(np.clip(color * (AMBIENT + DIFFUSE * diffuse) + specular, 0.0, 1.0))


def _draw_sphere(canvas: _Canvas, center: FloatArray, radius: float, color: FloatArray) -> None:
    place = canvas.box(center - radius, center + radius)
    if place is None:
        return
    dx = canvas.x[place[1]][None, :] - center[0]
    dy = canvas.y[place[0]][:, None] - center[1]
    square = radius**2 - dx**2 - dy**2
    dz = np.sqrt(np.where(square > 0, square, np.nan))
    normal = np.stack(np.broadcast_arrays(dx, dy, dz), axis=-1) / radius
    canvas.paint(place, center[2] + dz, normal, color)


def _draw_stick(canvas: _Canvas, start: FloatArray, end: FloatArray, radius: float, color: FloatArray) -> None:
    length = float(np.linalg.norm(end - start))
    place = canvas.box(np.minimum(start, end) - radius, np.maximum(start, end) + radius)
    if place is None or length == 0.0:
        return
    axis = (end - start) / length
    dx = canvas.x[place[1]][None, :] - start[0]
    dy = canvas.y[place[0]][:, None] - start[1]
    offset = np.stack(np.broadcast_arrays(dx, dy, np.zeros(())), axis=-1)  # ray origin seen from the start
    ray = np.array([0.0, 0.0, 1.0])
    across_ray = ray - axis[2] * axis
    across = offset - (offset @ axis)[..., None] * axis
    a = float(across_ray @ across_ray)
    if a < 1e-12:  # seen end on: nothing but its caps, which are spheres of the scene
        return
    b = across @ across_ray
    square = b**2 - a * (np.sum(across**2, axis=-1) - radius**2)
    t = (-b + np.sqrt(np.where(square > 0, square, np.nan))) / a
    along = offset @ axis + t * axis[2]
    depth = np.where((along >= 0) & (along <= length), start[2] + t, np.nan)
    normal = (across + t[..., None] * across_ray) / radius
    canvas.paint(place, depth, normal, color)


def _outlines(depth: FloatArray, width: int) -> NDArray[np.bool_]:
    """Pixels of a nearer object beside a deeper one."""
    edge = np.zeros(depth.shape, dtype=bool)
    finite = np.where(np.isfinite(depth), depth, -1e3)
    for shift in range(1, width + 1):
        for axis in (0, 1):
            for sign in (1, -1):
                other = np.roll(finite, sign * shift, axis=axis)
                edge |= finite - other > OUTLINE_STEP * (1 + 0.5 * shift)
    return edge & np.isfinite(depth)


def render(scene: Scene, window: Window, background: FloatArray, *, oversample: int = 2) -> FloatArray:
    """Draw a scene.

    Parameters
    ----------
    scene : Scene
    window : Window
    background : ndarray, shape (3,)
        RGB in [0, 1].
    oversample : int
        Rays per pixel edge; their mean smooths the edges.

    Returns
    -------
    ndarray, shape (height, width, 3)
        RGB in [0, 1], row 0 on top.
    """
    fine = Window(
        window.left,
        window.bottom,
        window.width * oversample,
        window.height * oversample,
        window.scale * oversample,
    )
    canvas = _Canvas(fine, background)
    for center, radius, color in scene.spheres:
        _draw_sphere(canvas, center, radius, color)
    for start, end, radius, color in scene.sticks:
        _draw_stick(canvas, start, end, radius, color)
    drawn = np.isfinite(canvas.depth)
    edge = _outlines(canvas.depth, max(1, round(0.75 * oversample)))
    canvas.color[edge] = 0.25 * canvas.color[edge] + 0.75 * OUTLINE_COLOR
    if drawn.any():
        near, far = canvas.depth[drawn].max(), canvas.depth[drawn].min()
        fog = FOG * ((near - canvas.depth[drawn]) / max(near - far, 1e-9))[:, None]
        canvas.color[drawn] = (1 - fog) * canvas.color[drawn] + fog * background
    blocks = canvas.color.reshape(window.height, oversample, window.width, oversample, 3)
    return np.asarray(blocks.mean(axis=(1, 3)))

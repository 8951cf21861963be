"""Order of rows of numbers that carry rounding errors."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def smallest_rows(rows: NDArray[np.float64], tolerance: float) -> NDArray[np.int64]:
    """Indices of the lexicographically smallest of rows (n, k).

    Entries closer than ``tolerance`` to the smallest of their column are equal, so that several
    rows may remain; they are given in their original order.
    """
    keep = np.arange(len(rows))
    for column in rows.T:
        values = column[keep]
        keep = keep[values <= values.min() + tolerance]
        if len(keep) == 1:
            break
    return keep


def smallest_row(rows: NDArray[np.float64], tolerance: float) -> int:
    """Index of the first of the `smallest_rows`."""
    return int(smallest_rows(rows, tolerance)[0])


def ordered_rows(rows: NDArray[np.float64], tolerance: float) -> list[int]:
    """Indices of rows (n, k) from the smallest to the largest, see `smallest_rows`."""
    left = list(range(len(rows)))
    result = []
    while left:
        result.append(left.pop(smallest_row(rows[left], tolerance)))
    return result

"""Tables of numbers and lists of claims as the notebooks show them."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from html import escape
from numbers import Integral, Real
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from nanh2lib.errors import ComputationError, InputError
from nanh2lib.report.drawing import write_bytes
from nanh2lib.report.html_table import html_table, typeset

NOT_PRINTED = "–"
"""Stands where the publication gives no number, or where a difference has no meaning."""


def run_words(profile: str, seed: int, potential: str | None = None) -> str:
    """Say which run made a number.

    Examples
    --------
    >>> run_words("smoke", 0, "sevennet-0")
    'profile smoke, seed 0, potential sevennet-0'
    """
    used = f", potential {potential}" if potential else ""
    return f"profile {profile}, seed {seed}{used}"


@dataclass(frozen=True)
class NumberTable:
    """A table that says where its numbers come from.

    Attributes
    ----------
    frame : DataFrame
        Cells are shown as they are: format them first (`number_table` does).
    caption : str
        Never empty.
    """

    frame: pd.DataFrame
    caption: str

    def __post_init__(self) -> None:
        if not self.caption.strip():
            raise InputError("table: its caption is empty; say what it shows and which run made it")

    def __repr__(self) -> str:
        return f"{self.caption}\n{self.frame.to_string()}"

    def _repr_html_(self) -> str:
        cells = ([str(cell) for cell in row] for row in self.frame.to_numpy())
        rows = [(str(name), row) for name, row in zip(self.frame.index, cells, strict=True)]
        return html_table(self.caption, [str(name) for name in self.frame.columns], rows)


def number_table(
    rows: Mapping[str, Mapping[str, Any]] | pd.DataFrame,
    caption: str,
    *,
    profile: str,
    seed: int,
    potential: str | None = None,
    digits: int = 2,
) -> NumberTable:
    """Table whose caption names profile, seed and potential.

    Parameters
    ----------
    rows : mapping of mapping, or DataFrame
        Cells by column, by row; floats are shown with ``digits`` decimals, NaN as "–".
    caption : str
        What the table shows; the run is added.
    profile, seed, potential
        Of the run; None where no potential was used.
    digits : int
    """
    frame = rows if isinstance(rows, pd.DataFrame) else pd.DataFrame.from_dict(dict(rows), orient="index")
    words = frame.map(lambda value: _cell(value, digits))
    stop = "" if caption.endswith(("?", "!")) else "."
    return NumberTable(words, f"{caption.rstrip('.')}{stop} ({run_words(profile, seed, potential).capitalize()}.)")


def three_columns(
    rows: Mapping[str, tuple[Any, Any]],
    caption: str,
    *,
    profile: str,
    seed: int,
    potential: str | None = None,
    digits: int = 2,
) -> NumberTable:
    """Table of what is printed, what was recomputed, and the difference.

    Parameters
    ----------
    rows : mapping
        (printed, recomputed) by name, units in the name. None where nothing is printed. Between
        texts the difference is "none" or "differs".
    caption, profile, seed, potential, digits
        As for `number_table`.
    """
    cells = {
        name: {
            "printed": _cell(printed, digits),
            "recomputed": _cell(found, digits),
            "difference": _difference(printed, found, digits),
        }
        for name, (printed, found) in rows.items()
    }
    return number_table(cells, caption, profile=profile, seed=seed, potential=potential)


def _is_number(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool | np.bool_)


def _cell(value: Any, digits: int) -> str:
    if value is None:
        return NOT_PRINTED
    if isinstance(value, bool | np.bool_):
        return "yes" if value else "no"
    if isinstance(value, Integral):
        return str(int(value))
    if isinstance(value, Real):
        number = float(value)
        return f"{number:.{digits}f}" if math.isfinite(number) else NOT_PRINTED
    return str(value)


def _difference(printed: Any, found: Any, digits: int) -> str:
    if printed is None or found is None:
        return NOT_PRINTED
    if _is_number(printed) and _is_number(found):
        gap = found - printed
        return f"{gap:+d}" if isinstance(gap, int) else _cell_signed(float(gap), digits)
    return "none" if printed == found else "differs"


def _cell_signed(gap: float, digits: int) -> str:
    return f"{gap:+.{digits}f}" if math.isfinite(gap) else NOT_PRINTED


@dataclass(frozen=True)
class Claims:
    """Claims that were checked and hold."""

    held: tuple[str, ...]

    def __repr__(self) -> str:
        return "\n".join(f"holds: {claim}" for claim in self.held)

    def _repr_html_(self) -> str:
        items = "".join(f"<li>holds: {escape(typeset(claim))}</li>" for claim in self.held)
        return f'<ul class="nanh2-claims">{items}</ul>'


def check_claims(claims: Mapping[str, Any]) -> Claims:
    """Hold a page to what it says.

    Parameters
    ----------
    claims : mapping
        Truth by claim, the claim in words.

    Returns
    -------
    Claims
        Shows itself as a list.

    Raises
    ------
    ComputationError
        One or more do not hold; all of them are named.
    InputError
        There is no claim.
    """
    if not claims:
        raise InputError("check: no claims were made; give {claim in words: whether it holds}")
    failed = [claim for claim, truth in claims.items() if not bool(truth)]
    if failed:
        raise ComputationError(f"check: {len(failed)} of {len(claims)} claims do not hold: {'; '.join(failed)}")
    return Claims(tuple(claims))


def plain_numbers(data: Any, digits: int = 6) -> Any:
    """Mappings, sequences, arrays and tensors as plain JSON values, floats rounded.

    Parameters
    ----------
    data : any
    digits : int
        Decimals that are kept.

    Raises
    ------
    ComputationError
        A number is NaN or infinite (its place is named): None says that there is none.
    """
    return _plain(data, digits, "numbers")


def _plain(value: Any, digits: int, place: str) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(inner, digits, f"{place}.{key}") for key, inner in value.items()}
    if value is None or isinstance(value, str | bool):
        return value
    if hasattr(value, "tolist"):  # numpy and torch, scalars too
        return _plain(value.tolist(), digits, place)
    if isinstance(value, list | tuple):
        return [_plain(inner, digits, f"{place}.{index}") for index, inner in enumerate(value)]
    if isinstance(value, int):
        return value
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ComputationError(f"{place} is {value}; write None where there is no number")
        return round(value, digits)
    return str(value)


def write_results(
    results_dir: str | Path, name: str, profile: str, seed: int, numbers: Mapping[str, Any], *, digits: int = 6
) -> None:
    """Write the numbers that a notebook hands to the tests, ``results_dir/name.json``, in one step.

    Parameters
    ----------
    results_dir : path
    name : str
        Name of the notebook, e.g. ``"01_published_tables"``.
    profile, seed : str, int
        Written beside the numbers.
    numbers : mapping
        Nested mappings, sequences, arrays; floats are rounded to ``digits`` decimals.
    digits : int

    Raises
    ------
    ComputationError
        A number is NaN or infinite.
    """
    plain = plain_numbers({"profile": profile, "seed": seed, **numbers}, digits)
    text = json.dumps(plain, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    write_bytes(Path(results_dir) / f"{name}.json", text.encode())

"""Comparison of a notebook's numbers with golden ones at stated tolerances.

A golden file ``tests/golden/<profile>/NN_name.json`` holds

``values``
    What the notebook wrote.
``tolerances``
    By pattern of the place (``energies.*``, shell style; the first that fits counts): ``rel`` and/or ``abs``, and
    ``why``: where the figure comes from. ``{"any": true, "why": ...}`` asks only for a finite number (wall times).

Numbers without a tolerance, and all text, must be equal. A place that is missing or new is a difference too.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parent / "golden"


def read_golden(profile: str, name: str) -> dict[str, Any]:
    path = FOLDER / profile / f"{name}.json"
    golden = json.loads(path.read_text(encoding="utf-8"))
    assert set(golden) == {"values", "tolerances"}, f"{path}: needs exactly 'values' and 'tolerances'"
    for pattern, tolerance in golden["tolerances"].items():
        assert tolerance.get("why"), f"{path}: tolerance of {pattern} gives no reason"
        assert set(tolerance) - {"why"} <= {"rel", "abs", "any"}, f"{path}: odd tolerance for {pattern}"
        assert set(tolerance) - {"why"}, f"{path}: tolerance of {pattern} allows nothing"
    return golden


def leaves(value: Any, place: str = "") -> Iterator[tuple[str, Any]]:
    """Place and value of each leaf: ``energies.alpha``, ``counts.3``."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from leaves(inner, f"{place}.{key}" if place else str(key))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from leaves(inner, f"{place}.{index}" if place else str(index))
    else:
        yield place, value


def tolerance_for(place: str, tolerances: Mapping[str, Mapping[str, Any]]) -> Mapping[str, Any]:
    return next((given for pattern, given in tolerances.items() if fnmatchcase(place, pattern)), {})


def agrees(found: Any, expected: Any, tolerance: Mapping[str, Any]) -> bool:
    numbers = [value for value in (found, expected) if isinstance(value, int | float) and not isinstance(value, bool)]
    if len(numbers) < 2:
        return type(found) is type(expected) and found == expected
    if tolerance.get("any"):
        return math.isfinite(found)
    return math.isclose(found, expected, rel_tol=tolerance.get("rel", 0.0), abs_tol=tolerance.get("abs", 0.0))


def differences(found: Any, golden: Mapping[str, Any]) -> list[str]:
    """One line for each place where ``found`` is not the golden value within its tolerance."""
    here, there = dict(leaves(found)), dict(leaves(golden["values"]))
    lines = [f"{place}: missing, expected {there[place]!r}" for place in there.keys() - here.keys()]
    lines += [f"{place}: {here[place]!r} has no golden value" for place in here.keys() - there.keys()]
    for place in sorted(here.keys() & there.keys()):
        tolerance = tolerance_for(place, golden["tolerances"])
        if not agrees(here[place], there[place], tolerance):
            allowed = {key: value for key, value in tolerance.items() if key != "why"} or "exact"
            lines.append(f"{place}: {here[place]!r}, expected {there[place]!r} ({allowed})")
    return sorted(lines)

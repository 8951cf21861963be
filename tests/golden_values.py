"""Comparison of a notebook's numbers with golden ones, at tolerances that come from the measured spread over seeds.

A golden file ``tests/golden/<profile>/NN_name.json`` holds

``values``
    What the notebook wrote with seed 0.
``tolerances``
    By pattern of the place (``energies.*``, shell style; the first that fits counts), with ``why``:

    ``share``
        Allowed deviation as a share of the standard deviation of that very number over seeds, as measured by
        ``scripts/measure_spread.py`` and kept in ``tests/golden/spread/<profile>.json``.
    ``until``
        Beside ``share``: what is allowed as long as that spread has not been measured.
    ``abs`` and/or ``rel``
        Smallest deviation that is allowed all the same: rounding of what is written, or float32 on another machine.
        Alone, it serves numbers that do not depend on the seed.
    ``any``
        True asks only for a finite number (wall times).

Numbers without a tolerance, and all text, must be equal. A place that is missing or new is a difference too.
"""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parent / "golden"
KEYS = {"share", "until", "rel", "abs", "any"}


def spread_file(profile: str) -> Path:
    return FOLDER / "spread" / f"{profile}.json"


def read_spread(profile: str, name: str) -> dict[str, float]:
    """Standard deviation over seeds of each number of a notebook, by place; empty where nothing was measured."""
    path = spread_file(profile)
    if not path.exists():
        return {}
    measured = json.loads(path.read_text(encoding="utf-8"))["notebooks"].get(name, {})
    return {place: statistics.stdev(values) for place, values in measured.items()}


def read_golden(profile: str, name: str) -> dict[str, Any]:
    """Values and tolerances of a golden file, and the measured ``spread`` of each place."""
    path = FOLDER / profile / f"{name}.json"
    golden = json.loads(path.read_text(encoding="utf-8"))
    assert set(golden) == {"values", "tolerances"}, f"{path}: needs exactly 'values' and 'tolerances'"
    for pattern, tolerance in golden["tolerances"].items():
        assert tolerance.get("why"), f"{path}: tolerance of {pattern} gives no reason"
        assert set(tolerance) - {"why"} <= KEYS, f"{path}: odd tolerance for {pattern}"
        assert set(tolerance) - {"why"}, f"{path}: tolerance of {pattern} allows nothing"
        assert "until" not in tolerance or "share" in tolerance, f"{path}: {pattern}: until which share?"
    return {**golden, "spread": read_spread(profile, name)}


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


def rule_for(place: str, golden: Mapping[str, Any]) -> Mapping[str, Any]:
    """What the golden file says of a place, as it stands there."""
    return next((given for pattern, given in golden["tolerances"].items() if fnmatchcase(place, pattern)), {})


def tolerance_for(place: str, golden: Mapping[str, Any]) -> dict[str, Any]:
    """Allowed deviation at a place: ``abs``, ``rel``, ``any``; the share of the measured spread is worked out."""
    rule = rule_for(place, golden)
    allowed = {key: rule[key] for key in ("abs", "rel", "any") if key in rule}
    if "share" in rule:
        measured = golden.get("spread", {}).get(place)
        deviation = rule.get("until", 0.0) if measured is None else rule["share"] * measured
        allowed["abs"] = max(allowed.get("abs", 0.0), deviation)
    return allowed


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
        tolerance = tolerance_for(place, golden)
        if not agrees(here[place], there[place], tolerance):
            lines.append(f"{place}: {here[place]!r}, expected {there[place]!r} ({tolerance or 'exact'})")
    return sorted(lines)

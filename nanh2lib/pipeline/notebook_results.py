"""Numbers that a notebook hands to the tests."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nanh2lib.pipeline.run import write_json
from nanh2lib.report.numbers import plain_numbers


def write_results(
    results_dir: str | Path, name: str, profile: str, seed: int, numbers: Mapping[str, Any], *, digits: int = 6
) -> Path:
    """Write ``results_dir/name.json`` in one step.

    Parameters
    ----------
    results_dir : path
    name : str
        Name of the notebook, e.g. ``"01_published_tables"``.
    profile, seed : str, int
        Written beside the numbers.
    numbers : mapping
        Nested mappings, sequences, arrays; floats are rounded to ``digits`` decimals.

    Raises
    ------
    ComputationError
        A number is NaN or infinite.
    StoreError
        The file cannot be written.
    """
    plain = plain_numbers({"profile": profile, "seed": seed, **numbers}, digits)
    return write_json(Path(results_dir) / f"{name}.json", plain)

"""A process that only calls spglib: reads one JSON cell a line, answers one JSON line.

spglib can hang for minutes on some cells and cannot be interrupted from inside, so it runs in a
process that can be ended. Started by `nanh2lib.validation.symmetry`.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import numpy as np
import spglib


def answer(request: dict[str, Any]) -> dict[str, Any] | None:
    """Space group of one cell; operations too where it is not the expected one."""
    cell = (np.array(request["lattice"]), np.array(request["frac_coords"]), request["numbers"])
    dataset = spglib.get_symmetry_dataset(cell, symprec=request["symprec"])
    if dataset is None:
        return None
    found: dict[str, Any] = {"number": int(dataset.number), "symbol": str(dataset.international)}
    if found["number"] != request.get("expected"):
        found["rotations"] = np.asarray(dataset.rotations).tolist()
        found["translations"] = np.asarray(dataset.translations).tolist()
    return found


def serve() -> None:
    """Answer until the input ends."""
    for line in sys.stdin:
        sys.stdout.write(json.dumps(answer(json.loads(line))) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    serve()

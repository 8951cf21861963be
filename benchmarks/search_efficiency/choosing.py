"""Which of many crystals are proposed: the lowest, of equal ones the first."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.search_efficiency.judged import RULES
from nanh2lib.crystal.asymmetric_unit import AsymmetricUnit
from nanh2lib.crystal.expansion import expand
from nanh2lib.ranking.duplicates import fingerprint

FloatArray = NDArray[np.float64]
SAME_PREDICTED, SAME_ENVIRONMENT = 5e-3, 0.05
"""Windows within which two proposals are one crystal: predicted energy (eV per formula unit) and average minimum
distances (A)."""


def lowest_different(
    units: Sequence[AsymmetricUnit],
    energies: Tensor,
    places: Sequence[int],
    count: int,
    energy_window: float = SAME_PREDICTED,
    amd_window: float = SAME_ENVIRONMENT,
) -> list[int]:
    """Places of the crystals of lowest energy, of equal ones the first; at most ``count``, by energy.

    Equal are crystals of nearly one energy and one average-minimum-distance vector.
    """
    chosen: list[int] = []
    prints: list[FloatArray] = []
    for place in sorted(places, key=lambda k: float(energies[k])):
        if len(chosen) == count:
            break
        mine = fingerprint(expand(units[place])[0], RULES.amd_neighbours)
        near = (k for k, other in enumerate(chosen) if abs(float(energies[other] - energies[place])) < energy_window)
        if all(np.abs(prints[k] - mine).max() > amd_window for k in near):
            chosen.append(place)
            prints.append(mine)
    return chosen

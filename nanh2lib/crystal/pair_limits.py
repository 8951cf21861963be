"""Shortest distances allowed between atoms of different units, by element pair."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from pymatgen.core import Element
from torch import Tensor

from nanh2lib.errors import InputError

NANH2_PAIRS = {
    ("Na", "Na"): 2.8,
    ("Na", "N"): 2.1,
    ("Na", "H"): 1.9,
    ("N", "N"): 2.7,
    ("N", "H"): 1.9,
    ("H", "H"): 1.8,
}


@dataclass(frozen=True)
class PairLimits:
    """Minimum distances (A) by unordered element pair.

    Attributes
    ----------
    pairs : tuple of (element, element, distance)
    default_scale : float
        A pair that is not listed gets this fraction of the sum of the elements' van der Waals
        radii (covalent contacts between units are not expected).
    """

    pairs: tuple[tuple[str, str, float], ...]
    default_scale: float = 0.65

    @classmethod
    def from_mapping(cls, pairs: Mapping[tuple[str, str], float], default_scale: float = 0.65) -> PairLimits:
        """Limits from ``{("Na", "N"): 2.1, ...}``.

        Raises
        ------
        InputError
            A distance is not positive or a symbol is not an element.
        """
        rows: list[tuple[str, str, float]] = []
        for (first, second), distance in pairs.items():
            for symbol in (first, second):
                if not Element.is_valid_symbol(symbol):
                    raise InputError(f"contact limits: {symbol!r} is not an element symbol")
            if not distance > 0:
                raise InputError(f"contact limits: {first}-{second} = {distance!r} A; give a positive distance")
            rows.append((min(first, second), max(first, second), float(distance)))
        return cls(tuple(sorted(rows)), default_scale)

    @classmethod
    def from_names(cls, pairs: Mapping[str, float], default_scale: float = 0.65) -> PairLimits:
        """Limits from ``{"Na-N": 2.1, ...}``, as settings files write them.

        Raises
        ------
        InputError
            A key is not two element symbols with a hyphen, or a distance is not positive.
        """
        named = {}
        for name, distance in pairs.items():
            parts = name.split("-")
            if len(parts) != 2:
                raise InputError(f"contact limits: {name!r} is not an element pair; write it like Na-N")
            named[parts[0], parts[1]] = distance
        return cls.from_mapping(named, default_scale)

    def limit(self, first: str, second: str) -> float:
        """Limit of an element pair, A."""
        key = tuple(sorted((first, second)))
        for a, b, distance in self.pairs:
            if (a, b) == key:
                return distance
        radii = [float(Element(symbol).van_der_waals_radius or 2.0) for symbol in key]
        return self.default_scale * sum(radii)

    def scaled(self, factor: float) -> PairLimits:
        """All limits times a factor."""
        rows = tuple((a, b, d * factor) for a, b, d in self.pairs)
        return PairLimits(rows, self.default_scale * factor)

    def matrix(self, first: Sequence[str], second: Sequence[str], dtype: torch.dtype = torch.float64) -> Tensor:
        """Limits (len(first), len(second)) in A."""
        names = sorted({*first, *second})
        lookup = {(a, b): self.limit(a, b) for a in names for b in names}
        return torch.tensor([[lookup[a, b] for b in second] for a in first], dtype=dtype)


REALISTIC_LIMITS = PairLimits.from_mapping(NANH2_PAIRS)
"""Limits for NaNH2 crystals before relaxation, just below the shortest distances of the published tables."""

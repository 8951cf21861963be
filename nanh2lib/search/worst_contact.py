"""The contact of each packed crystal that is shortest against its limit."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from nanh2lib.crystal.pair_limits import PairLimits
from nanh2lib.search.overlap import box_for, pair_vectors
from nanh2lib.search.packing import PackedState, PackedTemplates, atom_positions, pair_limits


@dataclass(frozen=True)
class WorstContacts:
    """Verdict and worst pair of each crystal of a batch.

    Attributes
    ----------
    passed : tuple of bool
        Every contact keeps its limit.
    texts : tuple of str
        Such as ``"Na-H 1.62 A (limit 1.90 A)"``, of the pair with the smallest ratio of distance to limit.
    """

    passed: tuple[bool, ...]
    texts: tuple[str, ...]


def worst_contacts(packed: PackedTemplates, state: PackedState, limits: PairLimits) -> WorstContacts:
    """Compare all contacts of packed crystals with their limits, in the precision of the state."""
    from pymatgen.core import Element

    box = box_for(packed, state, limits)
    table = pair_limits(packed, limits, state.lattice.dtype)
    _, independent, everything = atom_positions(packed, state)
    best: Tensor | None = None
    for (x, y, z), own in pair_vectors(box, independent, everything, packed.same_image):
        ratio = (x * x + y * y + z * z).sqrt() / table
        ratio = ratio.masked_fill((own if own is not None else packed.same_image) | (table == 0), torch.inf)
        best = ratio if best is None else torch.minimum(best, ratio)
    assert best is not None  # there is always the zero shift
    flat = best.flatten(1)
    smallest, place = flat.min(1)
    row, column = place // best.shape[2], place % best.shape[2]
    texts = []
    for b, (i, j) in enumerate(zip(row.tolist(), column.tolist(), strict=True)):
        first, second = int(packed.element_rows[b, i]), int(packed.element_columns[b, j])
        pair = "-".join(sorted((Element.from_Z(first).symbol, Element.from_Z(second).symbol), reverse=True))
        limit = float(table[b, i, j])
        texts.append(f"{pair} {float(smallest[b]) * limit:.3f} A (limit {limit:.3f} A)")
    return WorstContacts(tuple((smallest >= 1.0).tolist()), tuple(texts))

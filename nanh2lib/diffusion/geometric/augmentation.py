"""Other descriptions of the same crystals: origins shifted within the normalizer of the space group."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from nanh2lib.crystal.asymmetric_unit import Template
from nanh2lib.diffusion.geometric.flat_units import FlatUnits


@lru_cache(maxsize=2048)
def admissible_shifts(template: Template) -> tuple[Tensor, Tensor]:
    """Origin shifts that leave the operations alone and every unit on the representative of its site.

    Parameters
    ----------
    template : Template

    Returns
    -------
    shifts : Tensor, shape (K, 3), float64
        Discrete ones, fractional, the zero shift among them.
    directions : Tensor, shape (F, 3), float64
        Polar axes; every site contains them.
    """
    found = template.space_group.free_origin_shifts()
    shifts = torch.as_tensor(found.shifts.copy())
    projections = template.layout.origin_projection
    moved = torch.einsum("uij,kj->kui", projections, shifts)
    stays = (moved - shifts[:, None]).abs().amax((1, 2)) < 1e-6
    return shifts[stays], torch.as_tensor(found.directions.copy()).reshape(-1, 3)


def shift_origins(flat: FlatUnits, generator: torch.Generator) -> FlatUnits:
    """Shift the origin of each crystal at random within the normalizer of its space group.

    Parameters
    ----------
    flat : FlatUnits
    generator : torch.Generator

    Returns
    -------
    FlatUnits
        The same crystals: a discrete shift, and a uniform one along polar axes.
    """
    total = []
    for table in flat.tables:
        shifts, directions = admissible_shifts(table.template)
        pick = int(torch.randint(len(shifts), (1,), generator=generator))
        along = torch.rand(len(directions), generator=generator, dtype=torch.float64)
        total.append(shifts[pick] + along @ directions)
    moved = torch.stack(total).to(flat.frac_origins.dtype)
    return flat.replace(frac_origins=flat.frac_origins + moved[flat.crystal])

"""Noise on periodic positions: normal distributions wrapped onto the torus of a site.

A unit at x_0 is displaced by sigma eps, eps ~ N(0, I) in Cartesian coordinates, inside the
subspace that its site allows. Modulo the lattice translations t of that subspace

    p(x | x_0) ~ sum_t exp(-|x - x_0 + t|^2 / 2 sigma^2),
    d log p / dx = -sum_t w_t (x - x_0 + t) / sigma^2,    w_t = softmax(-|x - x_0 + t|^2 / 2 sigma^2).
"""

from __future__ import annotations

import itertools
import math
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from nanh2lib.crystal.asymmetric_unit import Template

FULL_TURN = 12.0
"""A cube of this edge maps onto any site's torus uniformly: projections have denominators that divide 12."""
REACH = 3.5
"""Translations are summed up to this many sigma."""


@lru_cache(maxsize=4096)
def site_translations(template: Template, unit: int, extent: tuple[int, int, int]) -> Tensor:
    """Lattice translations that keep a unit on the representative of its site.

    Parameters
    ----------
    template : Template
    unit : int
        Which unit of the asymmetric unit.
    extent : tuple of int
        Largest shift along each axis of the conventional cell.

    Returns
    -------
    Tensor, shape (K, 3), float64
        Fractional, centring translations included, zero first.
    """
    group = template.space_group
    whole = np.array(list(itertools.product(*(range(-n, n + 1) for n in extent))), dtype=np.float64)
    pure = group.translations[[np.array_equal(r, np.eye(3)) for r in group.rotations]]
    centring = pure - np.round(pure - 1e-9)
    vectors = (whole[:, None] + centring[None]).reshape(-1, 3)
    projection = template.wyckoff_sites[unit].projection
    inside = vectors[np.abs(vectors @ projection.T - vectors).max(1) < 1e-6]
    return torch.as_tensor(inside[np.argsort((inside**2).sum(1), kind="stable")])


def translation_extent(lattice: Tensor, sigma: float) -> tuple[int, int, int]:
    """Shifts along each axis that reach `REACH` sigma in every lattice of a batch (B, 3, 3)."""
    heights = (1.0 / torch.linalg.vector_norm(torch.linalg.inv(lattice), dim=-2)).amin(0)
    a, b, c = (max(1, math.ceil(REACH * sigma / float(h))) for h in heights)
    return a, b, c


def wrapped_normal_log_density(displacement: Tensor, translations: Tensor, sigma: Tensor) -> Tensor:
    """Log of the (unnormalised) wrapped normal density.

    Parameters
    ----------
    displacement : Tensor, shape (..., 3)
        x - x_0 in A, inside the subspace of the site.
    translations : Tensor, shape (..., K, 3)
        Lattice vectors of that subspace, A; rows of infinities are padding.
    sigma : Tensor, shape (...)
        A.

    Returns
    -------
    Tensor, shape (...)
        log sum_t exp(-|x - x_0 + t|^2 / 2 sigma^2).
    """
    squared = _finite_squares(displacement[..., None, :] + translations)
    return torch.logsumexp(-squared / (2 * sigma[..., None] ** 2), -1)


def wrapped_normal_score(displacement: Tensor, translations: Tensor, sigma: Tensor) -> Tensor:
    """Gradient (..., 3), 1/A, of `wrapped_normal_log_density` with respect to the displacement."""
    images = displacement[..., None, :] + translations
    squared = _finite_squares(images)
    weights = torch.softmax(-squared / (2 * sigma[..., None] ** 2), -1)
    images = torch.where(torch.isfinite(images), images, torch.zeros_like(images))
    return -(weights[..., None] * images).sum(-2) / sigma[..., None] ** 2


def nearest_image(displacement: Tensor, translations: Tensor) -> Tensor:
    """The shortest displacement (..., 3) equivalent to one (..., 3), among translations (..., K, 3)."""
    images = displacement[..., None, :] + translations
    best = _finite_squares(images).argmin(-1)
    index = best[..., None, None].expand(*best.shape, 1, 3)
    return torch.gather(images, -2, index).squeeze(-2)


def _finite_squares(images: Tensor) -> Tensor:
    squared = (images**2).sum(-1)
    return torch.where(torch.isfinite(squared), squared, torch.full_like(squared, 1e12))


def uniform_positions(template: Template, count: int, generator: torch.Generator) -> Tensor:
    """Fractional origins (count, U, 3), float64, uniform on the torus of each unit's site.

    A uniform point of a large enough cube, projected onto the site: the projection is a
    homomorphism of tori, so it carries the uniform distribution onto the uniform one.
    """
    layout = template.layout
    cube = FULL_TURN * torch.rand(count, template.n_units, 3, generator=generator, dtype=torch.float64)
    return torch.einsum("uij,buj->bui", layout.origin_projection, cube) + layout.origin_offset

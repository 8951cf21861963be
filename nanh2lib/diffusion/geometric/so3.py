"""Noise on orientations: the heat kernel of SO(3), its score, and its quotient by a unit's symmetry.

With the metric in which exp(w) is a turn by |w| radians, Brownian motion from the identity has
after time sigma^2 the density (against the Haar measure of total mass 1)

    f(omega) = sum_l (2 l + 1) exp(-l (l + 1) sigma^2 / 2) sin((l + 1/2) omega) / sin(omega / 2)
             = sqrt(2 pi) e^(sigma^2 / 8) / sigma^3
               sum_k (-1)^k (omega + 2 pi k) exp(-(omega + 2 pi k)^2 / 2 sigma^2) / sin(omega / 2),

a function of the angle alone ("isotropic Gaussian"; Nikolayev and Savyolov 1997). The second form
follows from the first by Poisson summation; it is exact and needs a few terms for any sigma below 3.
"""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from torch import Tensor

from nanh2lib.geometry.rotations import matrix_to_rotation_vector, rotation_vector_to_matrix

IMAGES = 4
"""Terms k = -4 ... 4; the next one is below 1e-12 for sigma <= 3."""
SMALL_ANGLE = 1e-3
GRID = 2048


def heat_kernel_log_density(angle: Tensor, sigma: Tensor) -> Tensor:
    """Logarithm of f(omega), against the Haar measure.

    Parameters
    ----------
    angle : Tensor, shape (...)
        Radians, in [0, pi]; float64 is advised. Below 1e-3 the density's value at 1e-3, with a
        quadratic correction, stands in.
    sigma : Tensor, shape (...)
        Radians.

    Returns
    -------
    Tensor, shape (...)
    """
    safe = angle.clamp_min(SMALL_ANGLE)
    total, _ = _theta_sums(safe, sigma)
    log_prefactor = 0.5 * math.log(2 * math.pi) + sigma**2 / 8 - 3 * torch.log(sigma)
    scale = -(safe**2) / (2 * sigma**2)  # the largest exponent was taken out of the sums
    value = log_prefactor + scale + torch.log(total.clamp_min(1e-300)) - torch.log(torch.sin(safe / 2))
    slope = _slope(safe, sigma)
    return value + torch.where(angle < SMALL_ANGLE, 0.5 * slope / safe * (angle**2 - safe**2), torch.zeros_like(angle))


def heat_kernel_slope(angle: Tensor, sigma: Tensor) -> Tensor:
    """Derivative d log f / d omega (...), 1/radian; linear in omega below 1e-3."""
    safe = angle.clamp_min(SMALL_ANGLE)
    return _slope(safe, sigma) * torch.where(angle < SMALL_ANGLE, angle / safe, torch.ones_like(angle))


def _theta_sums(angle: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
    """Sum over k of (-1)^k a_k e^(-a_k^2 / 2 sigma^2) and its derivative, times e^(omega^2 / 2 sigma^2)."""
    k = torch.arange(-IMAGES, IMAGES + 1, dtype=angle.dtype)
    sign = 1.0 - 2.0 * (k.abs() % 2)
    shifted = angle[..., None] + 2 * math.pi * k
    variance = sigma[..., None] ** 2
    weight = sign * torch.exp((angle[..., None] ** 2 - shifted**2) / (2 * variance))
    return (weight * shifted).sum(-1), (weight * (1 - shifted**2 / variance)).sum(-1)


def _slope(angle: Tensor, sigma: Tensor) -> Tensor:
    total, derivative = _theta_sums(angle, sigma)
    # Near pi the sum and its derivative both vanish for small sigma; the density is then 0 anyway.
    safe = torch.where(total.abs() < 1e-12, torch.full_like(total, 1e-12), total)
    return derivative / safe - 0.5 / torch.tan(angle / 2)


@lru_cache(maxsize=4096)
def _angle_table(sigma: float) -> tuple[Tensor, Tensor]:
    """Angles and the cumulative distribution of the rotation angle, (1 - cos omega) / pi f(omega)."""
    top = min(math.pi, 9.0 * sigma)
    angle = torch.linspace(0, top, GRID, dtype=torch.float64)
    density = heat_kernel_log_density(angle, torch.full_like(angle, sigma)).exp() * (1 - torch.cos(angle))
    cumulative = torch.cumulative_trapezoid(density, angle)
    cumulative = torch.cat([torch.zeros(1, dtype=torch.float64), cumulative])
    return angle, cumulative / cumulative[-1]


def sample_heat_kernel(sigma: Tensor, generator: torch.Generator) -> Tensor:
    """Rotation vectors (N, 3), radians, of turns distributed by the heat kernel.

    Parameters
    ----------
    sigma : Tensor, shape (N,)
        Radians. Distinct values are tabulated once each: use a fixed set of noise levels.
    generator : torch.Generator
    """
    direction = torch.randn(len(sigma), 3, generator=generator, dtype=torch.float64)
    direction = direction / torch.linalg.vector_norm(direction, dim=-1, keepdim=True)
    uniform = torch.rand(len(sigma), generator=generator, dtype=torch.float64)
    angle = torch.zeros_like(uniform)
    for value in torch.unique(sigma).tolist():
        rows = sigma == value
        grid, cumulative = _angle_table(float(value))
        draw = uniform[rows]
        upper = torch.searchsorted(cumulative, draw).clamp(1, GRID - 1)
        low, high = cumulative[upper - 1], cumulative[upper]
        share = (draw - low) / (high - low).clamp_min(1e-300)
        angle[rows] = grid[upper - 1] + share * (grid[upper] - grid[upper - 1])
    return direction * angle[:, None]


def quotient_log_density(rotation: Tensor, mean: Tensor, symmetry: Tensor, sigma: Tensor) -> Tensor:
    """Log density (...) of orientations around a mean, modulo the unit's proper symmetry.

    Parameters
    ----------
    rotation, mean : Tensor, shape (..., 3, 3)
    symmetry : Tensor, shape (..., G, 3, 3)
        Proper operations P of the body; mean and mean @ P are one orientation. NaN is padding.
    sigma : Tensor, shape (...)
        Radians.

    Returns
    -------
    Tensor, shape (...)
        log (1/G sum_P f(angle(rotation, mean @ P))).
    """
    vectors, valid = _turns(rotation, mean, symmetry)
    angle = torch.linalg.vector_norm(vectors, dim=-1)
    terms = heat_kernel_log_density(angle, sigma[..., None].expand_as(angle))
    terms = torch.where(valid, terms, torch.full_like(terms, -math.inf))
    return torch.logsumexp(terms, -1) - torch.log(valid.sum(-1).to(terms.dtype))


def quotient_score(rotation: Tensor, mean: Tensor, symmetry: Tensor, sigma: Tensor) -> Tensor:
    """Gradient (..., 3) of `quotient_log_density` along turns exp(w) @ rotation, at w = 0; 1/radian."""
    vectors, valid = _turns(rotation, mean, symmetry)
    angle = torch.linalg.vector_norm(vectors, dim=-1)
    spread = sigma[..., None].expand_as(angle)
    terms = heat_kernel_log_density(angle, spread)
    weight = torch.softmax(torch.where(valid, terms, torch.full_like(terms, -math.inf)), -1)
    direction = vectors / angle.clamp_min(1e-12)[..., None]
    slope = torch.where(valid, heat_kernel_slope(angle, spread), torch.zeros_like(angle))
    return (weight[..., None] * slope[..., None] * direction).sum(-2)


def _turns(rotation: Tensor, mean: Tensor, symmetry: Tensor) -> tuple[Tensor, Tensor]:
    """Rotation vectors (..., G, 3) from mean @ P to rotation, and which of them are not padding."""
    valid = ~torch.isnan(symmetry[..., 0, 0])
    identity = torch.eye(3, dtype=symmetry.dtype)
    proper = torch.where(valid[..., None, None], symmetry, identity)
    means = mean[..., None, :, :] @ proper
    return matrix_to_rotation_vector(rotation[..., None, :, :] @ means.transpose(-1, -2)), valid


def circle_log_density(angle: Tensor, period: Tensor, sigma: Tensor) -> Tensor:
    """Log (unnormalised, ...) of a normal wrapped onto a circle of some period, all in radians."""
    squared = _circle_images(angle, period) ** 2
    return torch.logsumexp(-squared / (2 * sigma[..., None] ** 2), -1)


def circle_score(angle: Tensor, period: Tensor, sigma: Tensor) -> Tensor:
    """Derivative (...) of `circle_log_density` by the angle, 1/radian."""
    images = _circle_images(angle, period)
    weight = torch.softmax(-(images**2) / (2 * sigma[..., None] ** 2), -1)
    return -(weight * images).sum(-1) / sigma**2


def _circle_images(angle: Tensor, period: Tensor) -> Tensor:
    k = torch.arange(-8, 9, dtype=angle.dtype)
    centred = angle - period * torch.round(angle / period)
    return centred[..., None] + period[..., None] * k


def turned(rotation: Tensor, vector: Tensor) -> Tensor:
    """Orientations (..., 3, 3) after turns by rotation vectors (..., 3) of the laboratory frame."""
    return rotation_vector_to_matrix(vector) @ rotation

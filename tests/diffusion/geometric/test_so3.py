"""The heat kernel of SO(3): density, score, sampler, quotient."""

import math

import pytest
import torch

from nanh2lib.crystal.rigid_unit import NH2
from nanh2lib.diffusion.geometric import so3
from nanh2lib.geometry.rotations import random_rotations, rotation_angle, rotation_vector_to_matrix

SIGMAS = [0.03, 0.1, 0.4, 1.0, 1.8]


def series(angle, sigma, terms=400):
    """The expansion in characters, summed as it stands."""
    order = torch.arange(terms, dtype=torch.float64)
    weight = (2 * order + 1) * torch.exp(-order * (order + 1) * sigma**2 / 2)
    return (weight * torch.sin((order + 0.5) * angle[:, None])).sum(-1) / torch.sin(angle / 2)


@pytest.mark.parametrize("sigma", SIGMAS)
def test_density_is_the_character_series(sigma):
    top = min(3.1, 5 * sigma)
    angle = torch.linspace(0.01 * sigma, top, 60, dtype=torch.float64)
    density = so3.heat_kernel_log_density(angle, torch.full_like(angle, sigma)).exp()
    assert torch.allclose(density, series(angle, sigma), rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("sigma", SIGMAS)
def test_density_is_normalised(sigma):
    angle = torch.linspace(0, math.pi, 200_001, dtype=torch.float64)
    density = so3.heat_kernel_log_density(angle, torch.full_like(angle, sigma)).exp()
    assert float(torch.trapezoid(density * (1 - torch.cos(angle)) / math.pi, angle)) == pytest.approx(1.0, abs=1e-5)


@pytest.mark.parametrize("sigma", SIGMAS)
def test_slope_is_the_derivative_of_the_log_density(sigma):
    angle = torch.linspace(1e-4, min(3.1, 5 * sigma), 50, dtype=torch.float64).requires_grad_(True)
    spread = torch.full((50,), sigma, dtype=torch.float64)
    (expected,) = torch.autograd.grad(so3.heat_kernel_log_density(angle, spread).sum(), angle)
    assert torch.allclose(so3.heat_kernel_slope(angle.detach(), spread), expected, rtol=1e-5, atol=1e-6)


def proper_symmetry():
    operations = torch.as_tensor(NH2.point_group[1].copy())
    return operations[torch.linalg.det(operations) > 0]


@pytest.mark.parametrize("sigma", SIGMAS)
def test_score_on_the_quotient_is_the_gradient_of_its_log_density(sigma):
    generator = torch.Generator().manual_seed(0)
    mean = random_rotations(20, generator)
    spread = torch.full((20,), sigma, dtype=torch.float64)
    turn = so3.sample_heat_kernel(spread, generator)
    rotation = rotation_vector_to_matrix(turn) @ mean
    symmetry = proper_symmetry().expand(20, -1, 3, 3)
    step = torch.zeros(20, 3, dtype=torch.float64, requires_grad=True)
    moved = rotation_vector_to_matrix(step) @ rotation
    (expected,) = torch.autograd.grad(so3.quotient_log_density(moved, mean, symmetry, spread).sum(), step)
    score = so3.quotient_score(rotation, mean, symmetry, spread)
    assert torch.allclose(score, expected, rtol=1e-4, atol=1e-5 / sigma)


def test_quotient_does_not_see_the_units_own_symmetry():
    generator = torch.Generator().manual_seed(1)
    mean, rotation = random_rotations(10, generator), random_rotations(10, generator)
    spread = torch.full((10,), 0.7, dtype=torch.float64)
    symmetry = proper_symmetry()
    assert len(symmetry) == 2
    scores = [so3.quotient_score(rotation, mean @ p, symmetry.expand(10, -1, 3, 3), spread) for p in symmetry]
    assert torch.allclose(scores[0], scores[1], atol=1e-9)
    padded = torch.cat([symmetry, torch.full((2, 3, 3), float("nan"), dtype=torch.float64)]).expand(10, -1, 3, 3)
    assert torch.allclose(so3.quotient_score(rotation, mean, padded, spread), scores[0], atol=1e-12)


@pytest.mark.parametrize("sigma", [0.05, 0.5, 1.5])
def test_sampled_angles_follow_the_density(sigma):
    vectors = so3.sample_heat_kernel(
        torch.full((20_000,), sigma, dtype=torch.float64), torch.Generator().manual_seed(0)
    )
    angle = torch.linalg.vector_norm(vectors, dim=-1).sort().values
    grid = torch.linspace(0, math.pi, 100_001, dtype=torch.float64)
    density = so3.heat_kernel_log_density(grid, torch.full_like(grid, sigma)).exp() * (1 - torch.cos(grid)) / math.pi
    cumulative = torch.cat([torch.zeros(1), torch.cumulative_trapezoid(density, grid)])
    expected = cumulative[torch.searchsorted(grid, angle).clamp_max(100_000)]
    empirical = torch.arange(1, 20_001, dtype=torch.float64) / 20_000
    assert float((expected - empirical).abs().max()) < 1.95 / math.sqrt(20_000)  # Kolmogorov, p = 0.001
    assert float(vectors.mean(0).abs().max()) < 5 * sigma / math.sqrt(20_000)


def test_two_small_steps_make_a_large_one():
    """The heat kernel is a convolution semigroup: variances add."""
    generator = torch.Generator().manual_seed(0)
    small = torch.full((20_000,), 0.6, dtype=torch.float64)
    first, second = (rotation_vector_to_matrix(so3.sample_heat_kernel(small, generator)) for _ in range(2))
    both = rotation_vector_to_matrix(so3.sample_heat_kernel(small * math.sqrt(2), generator))
    identity = torch.eye(3, dtype=torch.float64)
    composed, direct = rotation_angle(first @ second, identity), rotation_angle(both, identity)
    assert float(composed.mean()) == pytest.approx(float(direct.mean()), rel=0.02)
    assert float(composed.std()) == pytest.approx(float(direct.std()), rel=0.03)


def test_wide_noise_is_the_haar_measure():
    generator = torch.Generator().manual_seed(0)
    vectors = so3.sample_heat_kernel(torch.full((20_000,), 3.0, dtype=torch.float64), generator)
    wide = rotation_angle(rotation_vector_to_matrix(vectors), torch.eye(3, dtype=torch.float64))
    haar = rotation_angle(random_rotations(20_000, generator), torch.eye(3, dtype=torch.float64))
    assert float(wide.mean()) == pytest.approx(float(haar.mean()), rel=0.02)


def test_circle_score_is_the_derivative():
    angle = torch.linspace(-4, 9, 40, dtype=torch.float64).requires_grad_(True)
    for period in (math.pi, 2 * math.pi):
        for sigma in (0.1, 1.0, 2.5):
            full, spread = torch.full((40,), period, dtype=torch.float64), torch.full((40,), sigma, dtype=torch.float64)
            (expected,) = torch.autograd.grad(so3.circle_log_density(angle, full, spread).sum(), angle)
            assert torch.allclose(so3.circle_score(angle.detach(), full, spread), expected, atol=1e-9)
            shifted = so3.circle_score(angle.detach() + period, full, spread)
            assert torch.allclose(shifted, expected, atol=1e-7)

"""Minimum images in skewed cells against a brute-force sum over images: 10,000 random cells."""

import itertools

import pytest
import torch

from nanh2lib.geometry.lattice import cell_heights, lattice_is_valid, lattice_parameters_to_matrix
from nanh2lib.geometry.periodic import image_shifts, minimum_image_vectors, minkowski_reduce

CELLS = 10_000


@pytest.fixture(scope="module")
def lattices():
    """Random cells, from cubes to slivers of which opposite faces are 0.4 A apart."""
    generator = torch.Generator().manual_seed(20)
    found = []
    while sum(len(part) for part in found) < CELLS:
        lengths = 2 + 10 * torch.rand(4 * CELLS, 3, generator=generator, dtype=torch.float64)
        angles = 5 + 170 * torch.rand(4 * CELLS, 3, generator=generator, dtype=torch.float64)
        parameters = torch.cat([lengths, angles], 1)
        parameters = parameters[lattice_is_valid(parameters)]
        heights = cell_heights(lattice_parameters_to_matrix(parameters)).amin(-1)
        found.append(parameters[heights > 0.4])
    return lattice_parameters_to_matrix(torch.cat(found)[:CELLS])


def brute_force(lattices, frac, radius):
    """Shortest image distances (B, K); cells in order of the shifts they need, so that chunks stay small."""
    wrapped = frac - torch.round(frac)
    # |n + d| h <= distance for a neighbour within it, and the wrapped vector is one candidate.
    reach = torch.floor(radius[:, None] / cell_heights(lattices) + 0.5).long()
    order = reach.prod(-1).argsort()
    result = torch.empty(frac.shape[:2], dtype=frac.dtype)
    start = 0
    while start < len(order):
        size = 500 if int(reach[order[start]].prod()) < 100 else 50
        chunk = order[start : start + size]
        shifts = torch.tensor(
            list(itertools.product(*(range(-int(n), int(n) + 1) for n in reach[chunk].amax(0)))), dtype=frac.dtype
        )
        images = shifts @ lattices[chunk]  # (b, S, 3)
        base = wrapped[chunk] @ lattices[chunk]
        result[chunk] = torch.cdist(base, -images).amin(-1)
        start += size
    return result


def test_reduced_bases_span_the_same_lattice_and_are_minkowski_reduced(lattices):
    reduced, transform = minkowski_reduce(lattices)
    assert (transform - torch.round(transform)).abs().max() == 0
    assert (torch.linalg.det(transform).abs() - 1).abs().max() < 1e-9
    assert (transform @ lattices - reduced).abs().max() < 1e-9
    lengths = torch.linalg.vector_norm(reduced, dim=-1)
    # No combination of the shorter vectors shortens a longer one: the definition, in three dimensions.
    for i, j, k in itertools.product((-1, 0, 1), repeat=3):
        combined = torch.tensor([i, j, k], dtype=reduced.dtype) @ reduced
        for axis, coefficient in enumerate((i, j, k)):
            if coefficient:
                last = max(n for n, c in enumerate((i, j, k)) if c)
                if axis == last:
                    assert (torch.linalg.vector_norm(combined, dim=-1) >= lengths[:, axis] - 1e-9).all()


def test_minimum_images_are_those_of_brute_force(lattices):
    generator = torch.Generator().manual_seed(21)
    frac = 6 * torch.rand(CELLS, 2, 3, generator=generator, dtype=torch.float64) - 3
    found = torch.linalg.vector_norm(minimum_image_vectors(lattices, frac), dim=-1)
    # Only images within what was found can be shorter.
    expected = brute_force(lattices, frac, found.amax(-1))
    assert (found - expected).abs().max() < 1e-7


def test_image_shifts_reach_every_neighbour(lattices):
    generator = torch.Generator().manual_seed(22)
    cutoff, part = 3.0, lattices[:300]
    reduced, _ = minkowski_reduce(part)
    frac = torch.rand(300, 3, generator=generator, dtype=torch.float64)
    wrapped = frac - torch.round(frac)
    counted = torch.linalg.vector_norm((wrapped[:, None] + image_shifts(reduced, cutoff)) @ reduced, dim=-1) < cutoff
    wide = torch.tensor(list(itertools.product(range(-6, 7), repeat=3)), dtype=torch.float64)
    everything = torch.linalg.vector_norm((wrapped[:, None] + wide) @ reduced, dim=-1) < cutoff
    assert torch.equal(counted.sum(1), everything.sum(1))

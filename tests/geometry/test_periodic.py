"""Minimum images in cells of any shape, against brute-force sums over images."""

import itertools

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nanh2lib.geometry.lattice import cell_heights, lattice_is_valid, lattice_parameters_to_matrix
from nanh2lib.geometry.ordering import ordered_rows, smallest_row, smallest_rows
from nanh2lib.geometry.periodic import image_shifts, minimum_image_vectors, minkowski_reduce, wrap_frac


def skewed_cells(count, seed, low=8.0, high=172.0):
    generator = torch.Generator().manual_seed(seed)
    found = []
    while sum(len(part) for part in found) < count:
        parameters = torch.rand(8 * count, 6, generator=generator, dtype=torch.float64)
        parameters = torch.cat([2 + 10 * parameters[:, :3], low + (high - low) * parameters[:, 3:]], 1)
        found.append(parameters[lattice_is_valid(parameters)])
    return lattice_parameters_to_matrix(torch.cat(found)[:count])


def brute_force(lattice, difference):
    """Shortest image by a sum that is provably wide enough: |n_i| <= length / height_i + 1/2."""
    start = difference - torch.round(difference)
    length = torch.linalg.vector_norm(start @ lattice, dim=-1).max()
    reach = torch.floor(length / cell_heights(lattice) + 0.5).long().tolist()
    shifts = torch.tensor(list(itertools.product(*(range(-n, n + 1) for n in reach))), dtype=torch.float64)
    return torch.linalg.vector_norm((start[:, None] + shifts) @ lattice, dim=-1).amin(1)


def test_minimum_images_of_skewed_cells():
    lattices = skewed_cells(400, 0)
    difference = 6 * torch.rand(400, 4, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64) - 3
    found = torch.linalg.vector_norm(minimum_image_vectors(lattices, difference), dim=-1)
    expected = torch.stack([brute_force(cell, d) for cell, d in zip(lattices, difference, strict=True)])
    assert torch.allclose(found, expected, atol=1e-9)


def test_reduced_bases_span_the_lattice_and_are_shortest():
    lattices = skewed_cells(300, 2)
    reduced, transform = minkowski_reduce(lattices)
    assert torch.allclose(transform @ lattices, reduced, atol=1e-9)
    assert torch.allclose(torch.linalg.det(transform).abs(), torch.ones(300).double())
    assert torch.allclose(transform, transform.round())
    # Minkowski's conditions in three dimensions.
    lengths = torch.linalg.vector_norm(reduced, dim=-1)
    for signs in itertools.product((-1.0, 0.0, 1.0), repeat=3):
        combined = torch.linalg.vector_norm((torch.tensor(signs).double() @ reduced), dim=-1)
        for axis in range(3):
            if signs[axis] != 0 and not any(signs[axis + 1 :]):
                assert bool((combined >= lengths[:, axis] * (1 - 1e-9)).all())


def test_float32_agrees():
    lattices = skewed_cells(50, 3, 40, 140)
    difference = torch.rand(50, 8, 3, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    single = minimum_image_vectors(lattices.float(), difference.float())
    lengths = [
        torch.linalg.vector_norm(v.double(), dim=-1) for v in (single, minimum_image_vectors(lattices, difference))
    ]
    assert torch.allclose(*lengths, atol=1e-5)


def test_gradient_flows_through_the_chosen_image():
    lattice = skewed_cells(1, 5).requires_grad_()
    difference = torch.rand(1, 2, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(6)).requires_grad_()
    assert torch.autograd.gradcheck(minimum_image_vectors, (lattice, difference))


def test_image_shifts_hold_every_neighbour():
    lattice = skewed_cells(3, 7, 40, 140)
    shifts = image_shifts(lattice, 5.0)
    assert shifts[0].tolist() == [0, 0, 0]
    listed = {tuple(map(int, row)) for row in shifts.tolist()}
    points = np.stack(np.meshgrid(*[np.linspace(-0.5, 0.5, 5)] * 3), -1).reshape(-1, 3)
    for cell in lattice.numpy():
        for n in itertools.product(range(-4, 5), repeat=3):
            if np.linalg.norm((points + n) @ cell, axis=1).min() < 5.0 - 1e-6:
                assert n in listed


@settings(deadline=None, max_examples=60, derandomize=True)
@given(st.lists(st.floats(-50, 50), min_size=1, max_size=5))
def test_wrapping(values):
    wrapped = wrap_frac(torch.tensor(values, dtype=torch.float64))
    assert bool((wrapped >= 0).all() and (wrapped < 1).all())
    difference = wrapped - torch.tensor(values, dtype=torch.float64)
    assert float((difference - difference.round()).abs().max()) < 1e-7


def test_wrapping_counts_nearly_one_as_zero():
    assert wrap_frac(torch.tensor([0.9999999999, -1e-12, 1.0]).double()).tolist() == [0.0, 0.0, 0.0]


def test_rows_are_compared_with_a_tolerance():
    rows = np.array([[0.50004, 0.1], [0.5, 0.3], [0.50006, 0.0], [0.7, 0.0]])
    assert smallest_rows(rows[:, :1], 1e-4).tolist() == [0, 1, 2]
    assert smallest_row(rows, 1e-4) == 2
    assert ordered_rows(rows, 1e-4) == [2, 0, 1, 3]
    assert smallest_row(rows, 1e-9) == 1

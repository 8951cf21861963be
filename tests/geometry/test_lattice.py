"""Lattices: the orientation of pymatgen's ``vesta=True``, and back."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pymatgen.core import Lattice

from nanh2lib.geometry import lattice as lat

quick = settings(deadline=None, max_examples=80, derandomize=True)
lengths = st.floats(2, 30)
angles = st.floats(35, 145)
cells = st.tuples(lengths, lengths, lengths, angles, angles, angles).filter(
    lambda p: bool(lat.lattice_is_valid(torch.tensor(p, dtype=torch.float64)))
)


@quick
@given(cells)
def test_matrix_is_pymatgens(parameters):
    ours = lat.lattice_parameters_to_matrix(torch.tensor(parameters, dtype=torch.float64))
    theirs = Lattice.from_parameters(*parameters, vesta=True).matrix
    assert np.allclose(ours.numpy(), theirs, atol=1e-9)
    assert ours[0, 1] == ours[0, 2] == ours[1, 2] == 0


@quick
@given(cells)
def test_parameters_come_back_from_any_orientation(parameters):
    matrix = lat.lattice_parameters_to_matrix(torch.tensor(parameters, dtype=torch.float64))
    turned = matrix @ torch.linalg.qr(torch.arange(9.0).reshape(3, 3).double().cos())[0]
    assert torch.allclose(lat.matrix_to_lattice_parameters(turned), torch.tensor(parameters).double(), atol=1e-8)


@quick
@given(cells)
def test_heights_are_distances_between_faces(parameters):
    matrix = lat.lattice_parameters_to_matrix(torch.tensor(parameters, dtype=torch.float64))
    a, b, c = matrix.numpy()
    volume = abs(np.linalg.det(matrix.numpy()))
    expected = [volume / np.linalg.norm(np.cross(*pair)) for pair in ((b, c), (a, c), (a, b))]
    assert np.allclose(lat.cell_heights(matrix).numpy(), expected)


def test_gradient_of_the_matrix():
    parameters = torch.tensor([[6.1, 7.2, 8.3, 80.0, 95.0, 107.0]], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lat.lattice_parameters_to_matrix, parameters)
    right = torch.tensor([[6.1, 7.2, 8.3, 90.0, 90.0, 90.0]], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lat.lattice_parameters_to_matrix, right)


@pytest.mark.parametrize(
    ("parameters", "valid"),
    [
        ((8.964, 10.456, 8.073, 90, 90, 90), True),
        ((7.121, 6.337, 7.030, 90, 145.882, 90), True),
        ((0.5, 5, 5, 90, 90, 90), False),
        ((5, 5, 5, 60, 60, 125), False),  # the angles do not close
        ((5, 5, 5, 180, 90, 90), False),
        ((5, 5, 5, -80, 90, 90), False),
        ((float("nan"), 5, 5, 90, 90, 90), False),
        ((float("inf"), 5, 5, 90, 90, 90), False),
    ],
)
def test_which_parameters_span_a_cell(parameters, valid):
    assert bool(lat.lattice_is_valid(torch.tensor(parameters, dtype=torch.float64))) is valid

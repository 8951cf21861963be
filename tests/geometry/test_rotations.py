"""Rotations: every name of a rotation leads back to it, at the gimbal lock and at a half turn too."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from nanh2lib.geometry import rotations as rot

angle = st.floats(-math.pi, math.pi, allow_nan=False)
seeds = st.integers(0, 2**31)
quick = settings(deadline=None, max_examples=60, derandomize=True)


def random(seed, count=1, dtype=torch.float64):
    return rot.random_rotations(count, torch.Generator().manual_seed(seed), dtype)


def is_rotation(matrix, tolerance=1e-12):
    eye = torch.eye(3, dtype=matrix.dtype)
    orthogonal = float((matrix.transpose(-1, -2) @ matrix - eye).abs().max())
    return orthogonal < tolerance and bool((torch.linalg.det(matrix) > 0).all())


@quick
@given(angle, angle, angle)
def test_euler_angles_are_scipys_intrinsic_zxz(a, b, c):
    ours = rot.euler_zxz_to_matrix(torch.tensor([a, b, c], dtype=torch.float64))
    assert np.allclose(ours.numpy(), Rotation.from_euler("ZXZ", [a, b, c]).as_matrix(), atol=1e-12)


@quick
@given(seeds)
def test_euler_round_trip(seed):
    matrix = random(seed)
    angles = rot.matrix_to_euler_zxz(matrix)
    assert 0 <= float(angles[0, 1]) <= math.pi
    assert torch.allclose(rot.euler_zxz_to_matrix(angles), matrix, atol=1e-12)


@quick
@given(angle, angle, st.sampled_from([0.0, math.pi, 1e-9, 1e-7, math.pi - 1e-9, 9e-7]))
def test_gimbal_lock_puts_all_of_the_turn_into_alpha(alpha, gamma, beta):
    matrix = rot.euler_zxz_to_matrix(torch.tensor([[alpha, beta, gamma]], dtype=torch.float64))
    angles = rot.matrix_to_euler_zxz(matrix)
    assert float(angles[0, 2]) == 0.0
    assert torch.allclose(rot.euler_zxz_to_matrix(angles), matrix, atol=3e-6)


@quick
@given(st.tuples(angle, angle, angle).filter(lambda v: math.hypot(*v) < math.pi - 1e-4))
def test_logarithm_inverts_the_exponential(vector):
    vector = torch.tensor([vector], dtype=torch.float64)
    matrix = rot.rotation_vector_to_matrix(vector)
    assert is_rotation(matrix)
    assert torch.allclose(rot.matrix_to_rotation_vector(matrix), vector, atol=1e-8)


@quick
@given(st.tuples(*[st.floats(-1, 1)] * 3).filter(lambda v: math.hypot(*v) > 0.1), st.sampled_from([0, 1e-9, 1e-5]))
def test_logarithm_at_a_half_turn(axis, short):
    axis = torch.tensor(axis, dtype=torch.float64)
    axis = axis / axis.norm()
    matrix = rot.rotation_vector_to_matrix(axis * (math.pi - short))
    vector = rot.matrix_to_rotation_vector(matrix)
    assert float(vector.norm()) == pytest.approx(math.pi, abs=2e-5)
    assert torch.allclose(rot.rotation_vector_to_matrix(vector), matrix, atol=1e-7)


def test_exponential_has_a_gradient_at_zero():
    vector = torch.zeros(1, 3, dtype=torch.float64, requires_grad=True)
    (rot.rotation_vector_to_matrix(vector) @ torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64)).sum().backward()
    # d/dv of sum(x + v x x) = (x cross 1)
    assert torch.allclose(vector.grad, torch.tensor([[-1.0, 2.0, -1.0]], dtype=torch.float64))
    assert torch.autograd.gradcheck(rot.rotation_vector_to_matrix, vector)


@quick
@given(seeds)
def test_quaternions(seed):
    matrix = random(seed, 20)
    quaternion = rot.matrix_to_quaternion(matrix)
    assert torch.allclose(rot.quaternion_to_matrix(quaternion), matrix, atol=1e-12)
    assert bool((quaternion[:, 0] >= 0).all())
    expected = Rotation.from_matrix(matrix.numpy()).as_quat(canonical=True)
    assert np.allclose(np.roll(expected, 1, axis=1), quaternion.numpy(), atol=1e-10)


def test_random_rotations_are_uniform():
    """Haar measure: the trace's density is (1 - cos t) / pi in the angle t, and mean matrices vanish."""
    matrices = random(0, 40_000)
    assert is_rotation(matrices)
    assert float(matrices.mean(0).abs().max()) < 4 / math.sqrt(3 * 40_000)
    angles = rot.rotation_angle(torch.eye(3, dtype=torch.float64), matrices).numpy()
    expected = np.linspace(0, math.pi, 60)
    cumulative = (expected - np.sin(expected)) / math.pi
    found = np.searchsorted(np.sort(angles), expected) / len(angles)
    assert np.abs(found - cumulative).max() < 1.63 / math.sqrt(len(angles))  # Kolmogorov-Smirnov, 1 %


def test_random_rotations_repeat_with_their_seed():
    assert torch.equal(random(3, 5), random(3, 5))
    assert not torch.equal(random(3, 5), random(4, 5))
    assert random(3, 5, torch.float32).dtype is torch.float32


@quick
@given(seeds)
def test_nearest_rotation(seed):
    generator = torch.Generator().manual_seed(seed)
    matrix = torch.randn(4, 3, 3, generator=generator, dtype=torch.float64)
    best = rot.nearest_rotation(matrix)
    assert is_rotation(best)
    others = best @ rot.rotation_vector_to_matrix(0.05 * torch.randn(4, 3, generator=generator, dtype=torch.float64))
    assert bool((((others - matrix) ** 2).sum((-1, -2)) >= ((best - matrix) ** 2).sum((-1, -2)) - 1e-12).all())


def test_rotation_onto_turns_x_and_handles_the_opposite():
    directions = torch.nn.functional.normalize(torch.randn(50, 3, generator=torch.Generator().manual_seed(1)).double())
    directions = torch.cat([directions, torch.tensor([[1.0, 0, 0], [-1.0, 0, 0]]).double()])
    matrix = rot.rotation_onto(directions)
    assert is_rotation(matrix)
    assert torch.allclose(matrix[..., 0], directions, atol=1e-12)
    assert torch.allclose(matrix[-1], torch.diag(torch.tensor([-1.0, -1.0, 1.0])).double(), atol=1e-12)

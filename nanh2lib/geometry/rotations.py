"""Rotations as 3x3 matrices acting on column vectors, and the ways to name them.

Euler angles are intrinsic ZXZ in radians, ``R = Rz(alpha) Rx(beta) Rz(gamma)``, with beta in
[0, pi] and gamma = 0 where sin(beta) < 1e-6.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

GIMBAL_TOLERANCE = 1e-6


def random_rotations(
    count: int, generator: torch.Generator | None = None, dtype: torch.dtype = torch.float64
) -> Tensor:
    """Rotations uniform in the Haar measure, from normalised Gaussian quaternions.

    Parameters
    ----------
    count : int
        How many.
    generator : torch.Generator, optional
        Source of randomness.
    dtype : torch.dtype
        float32 or float64.

    Returns
    -------
    Tensor, shape (count, 3, 3)
    """
    quaternion = torch.randn(count, 4, generator=generator, dtype=torch.float64).to(dtype)
    return quaternion_to_matrix(quaternion)


def quaternion_to_matrix(quaternion: Tensor) -> Tensor:
    """Matrices (..., 3, 3) of quaternions (..., 4), real part first, of any non-zero length."""
    w, x, y, z = (quaternion / torch.linalg.vector_norm(quaternion, dim=-1, keepdim=True)).unbind(-1)
    rows = [
        1 - 2 * (y * y + z * z),
        2 * (x * y - w * z),
        2 * (x * z + w * y),
        2 * (x * y + w * z),
        1 - 2 * (x * x + z * z),
        2 * (y * z - w * x),
        2 * (x * z - w * y),
        2 * (y * z + w * x),
        1 - 2 * (x * x + y * y),
    ]
    return torch.stack(rows, -1).reshape(*w.shape, 3, 3)


def rotation_about(axis: int, angle: Tensor) -> Tensor:
    """Rotations (..., 3, 3) by ``angle`` (...), radians, about Cartesian axis 0, 1 or 2."""
    cos, sin, zero, one = torch.cos(angle), torch.sin(angle), torch.zeros_like(angle), torch.ones_like(angle)
    entries = {
        0: [one, zero, zero, zero, cos, -sin, zero, sin, cos],
        1: [cos, zero, sin, zero, one, zero, -sin, zero, cos],
        2: [cos, -sin, zero, sin, cos, zero, zero, zero, one],
    }[axis]
    return torch.stack(entries, -1).reshape(*angle.shape, 3, 3)


def euler_zxz_to_matrix(angles: Tensor) -> Tensor:
    """Rotation matrices of intrinsic ZXZ Euler angles.

    Parameters
    ----------
    angles : Tensor, shape (..., 3)
        alpha, beta, gamma in radians; gamma acts first on a body-frame vector.

    Returns
    -------
    Tensor, shape (..., 3, 3)
        Rz(alpha) Rx(beta) Rz(gamma).
    """
    alpha, beta, gamma = angles.unbind(-1)
    return rotation_about(2, alpha) @ rotation_about(0, beta) @ rotation_about(2, gamma)


def matrix_to_euler_zxz(rotation: Tensor) -> Tensor:
    """Intrinsic ZXZ Euler angles of rotation matrices.

    Parameters
    ----------
    rotation : Tensor, shape (..., 3, 3)

    Returns
    -------
    Tensor, shape (..., 3)
        alpha and gamma in (-pi, pi], beta in [0, pi]; gamma = 0 where sin(beta) < 1e-6.
    """
    sin_beta = torch.hypot(rotation[..., 0, 2], rotation[..., 1, 2])
    beta = torch.atan2(sin_beta, rotation[..., 2, 2])
    locked = sin_beta < GIMBAL_TOLERANCE
    alpha = torch.atan2(rotation[..., 0, 2], -rotation[..., 1, 2])
    gamma = torch.atan2(rotation[..., 2, 0], rotation[..., 2, 1])
    alpha_locked = torch.atan2(rotation[..., 1, 0], rotation[..., 0, 0])
    alpha = torch.where(locked, alpha_locked, alpha)
    gamma = torch.where(locked, torch.zeros_like(gamma), gamma)
    return torch.stack([alpha, beta, gamma], -1)


def skew(vector: Tensor) -> Tensor:
    """Matrices K (..., 3, 3) with K x = v cross x for vectors v (..., 3)."""
    x, y, z = vector.unbind(-1)
    zero = torch.zeros_like(x)
    return torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], -1).reshape(*x.shape, 3, 3)


def rotation_vector_to_matrix(vector: Tensor) -> Tensor:
    """Exponential map of SO(3) (Rodrigues' formula).

    Parameters
    ----------
    vector : Tensor, shape (..., 3)
        Axis times angle, radians. Smooth (and differentiable) at zero.

    Returns
    -------
    Tensor, shape (..., 3, 3)
    """
    squared = (vector**2).sum(-1)[..., None, None]
    small = squared < 1e-8
    safe = torch.where(small, torch.ones_like(squared), squared)
    angle = torch.sqrt(safe)
    first = torch.where(small, 1 - squared / 6, torch.sin(angle) / angle)
    second = torch.where(small, 0.5 - squared / 24, (1 - torch.cos(angle)) / safe)
    k = skew(vector)
    return torch.eye(3, dtype=vector.dtype, device=vector.device) + first * k + second * (k @ k)


def matrix_to_rotation_vector(rotation: Tensor) -> Tensor:
    """Logarithm of SO(3): axis times angle, with the angle in [0, pi].

    Parameters
    ----------
    rotation : Tensor, shape (..., 3, 3)

    Returns
    -------
    Tensor, shape (..., 3)
        Radians. At an angle of pi the sign of the axis makes its first non-zero entry positive.
    """
    quaternion = matrix_to_quaternion(rotation)
    real, imaginary = quaternion[..., :1], quaternion[..., 1:]
    norm = torch.linalg.vector_norm(imaginary, dim=-1, keepdim=True)
    angle = 2 * torch.atan2(norm, real)
    scale = torch.where(norm > 1e-12, angle / norm.clamp_min(1e-12), torch.full_like(norm, 2.0))
    return scale * imaginary


def matrix_to_quaternion(rotation: Tensor) -> Tensor:
    """Unit quaternions (..., 4), real part first and not negative, of rotations (..., 3, 3)."""
    m = rotation
    m00, m11, m22 = m[..., 0, 0], m[..., 1, 1], m[..., 2, 2]
    squares = torch.stack([1 + m00 + m11 + m22, 1 + m00 - m11 - m22, 1 - m00 + m11 - m22, 1 - m00 - m11 + m22], -1)
    d21, d02, d10 = m[..., 2, 1] - m[..., 1, 2], m[..., 0, 2] - m[..., 2, 0], m[..., 1, 0] - m[..., 0, 1]
    s10, s20, s21 = m[..., 1, 0] + m[..., 0, 1], m[..., 2, 0] + m[..., 0, 2], m[..., 2, 1] + m[..., 1, 2]
    table = torch.stack(
        [
            torch.stack([squares[..., 0], d21, d02, d10], -1),
            torch.stack([d21, squares[..., 1], s10, s20], -1),
            torch.stack([d02, s10, squares[..., 2], s21], -1),
            torch.stack([d10, s20, s21, squares[..., 3]], -1),
        ],
        -2,
    )
    # The row with the largest square is the best conditioned of the four equal answers.
    best = squares.argmax(-1)[..., None, None].expand(*squares.shape[:-1], 1, 4)
    quaternion = torch.gather(table, -2, best).squeeze(-2)
    quaternion = quaternion / torch.linalg.vector_norm(quaternion, dim=-1, keepdim=True)
    return canonical_quaternion(quaternion)


def canonical_quaternion(quaternion: Tensor) -> Tensor:
    """Of q and -q the one whose first entry that is not zero (to 1e-9) is positive."""
    sign = torch.zeros_like(quaternion[..., 0])
    for entry in quaternion.unbind(-1):
        sign = torch.where((sign == 0) & (entry.abs() > 1e-9), torch.sign(entry), sign)
    return quaternion * torch.where(sign == 0, torch.ones_like(sign), sign)[..., None]


def nearest_rotation(matrix: Tensor) -> Tensor:
    """Rotations closest (Frobenius) to matrices (..., 3, 3); source: Kabsch (1976)."""
    u, _, vh = torch.linalg.svd(matrix)
    sign = torch.sign(torch.linalg.det(u @ vh))
    u = torch.cat([u[..., :, :2], u[..., :, 2:] * sign[..., None, None]], -1)
    return u @ vh


def rotation_onto(direction: Tensor) -> Tensor:
    """Smallest rotations that turn +x onto unit vectors (..., 3); about z where they are -x.

    Used for linear units, whose spin about their own axis has no meaning.
    """
    x_axis = torch.tensor([1.0, 0.0, 0.0], dtype=direction.dtype, device=direction.device)
    axis = torch.linalg.cross(x_axis.expand_as(direction), direction)
    sine = torch.linalg.vector_norm(axis, dim=-1, keepdim=True)
    angle = torch.atan2(sine, direction[..., :1])
    z_axis = torch.tensor([0.0, 0.0, 1.0], dtype=direction.dtype, device=direction.device)
    unit = torch.where(sine > 1e-9, axis / sine.clamp_min(1e-12), z_axis.expand_as(axis))
    return rotation_vector_to_matrix(unit * angle)


def rotation_angle(first: Tensor, second: Tensor) -> Tensor:
    """Angle in radians (...) between rotations (..., 3, 3)."""
    trace = torch.diagonal(first.transpose(-1, -2) @ second, dim1=-2, dim2=-1).sum(-1)
    return torch.arccos(((trace - 1) / 2).clamp(-1.0, 1.0))


def degrees(angle: float) -> float:
    """Degrees of an angle in radians."""
    return angle * 180.0 / math.pi

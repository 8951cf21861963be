"""Energy guidance of the geometric sampler, four ways, and the state that all of them look at.

Every guide returns the gradient of a standardised energy with respect to Cartesian shifts and
left turns of the units. The sampler subtracts w sigma times it from (sigma times) the score, so
the samples are tilted by exp(-w E_std) where the gradient belongs to the noised density.

paper    clean energy model at the noised crystal, as in the supplement
noised   energy model that was trained on noised crystals and is told the level
x0       clean energy model at the denoised estimate
physics  a real potential, handed in, at the denoised estimate
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from nanh2lib.crystal.asymmetric_unit import AsymmetricUnit
from nanh2lib.diffusion.geometric.flat_units import FlatUnits, batches_of, moved
from nanh2lib.diffusion.geometric.model import GeometricEnergyModel
from nanh2lib.errors import ComputationError

PotentialGradient = Callable[[AsymmetricUnit], tuple[Tensor, Tensor, Tensor]]
"""AsymmetricUnit (batch of B) -> energy (B,) eV per formula unit, its derivatives (B, U, 3) by Cartesian
shifts of the units (eV/A) and by rotation vectors multiplied from the left (eV/radian)."""


@dataclass(frozen=True)
class DenoisingState:
    """One moment of the denoising of a batch on one template.

    Attributes
    ----------
    noised : FlatUnits
        float64.
    denoised : FlatUnits
        Estimate of the clean crystals.
    level : Tensor of int, shape (C,)
    position_sigma, turn_sigma : float
        A, radians.
    """

    noised: FlatUnits
    denoised: FlatUnits
    level: Tensor
    position_sigma: float
    turn_sigma: float


class Guide(Protocol):
    """Gradient (N, 3), (N, 3) of a standardised energy by shifts and turns."""

    def __call__(self, state: DenoisingState) -> tuple[Tensor, Tensor]: ...


@dataclass(frozen=True)
class NetworkGuide:
    """Guidance by an energy network.

    Attributes
    ----------
    energy : GeometricEnergyModel
    at_denoised : bool
        Look at the denoised estimate (``x0``; its dependence on the noised crystal is taken as
        the identity), or at the noised crystal itself (``paper``; ``noised`` if the network is
        told the level).
    """

    energy: GeometricEnergyModel
    at_denoised: bool = False

    def __call__(self, state: DenoisingState) -> tuple[Tensor, Tensor]:
        flat = state.denoised if self.at_denoised else state.noised
        level = state.level if self.energy.network.noised else None
        return energy_gradient(self.energy, flat, level)


def energy_gradient(model: GeometricEnergyModel, flat: FlatUnits, level: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Derivatives (N, 3), (N, 3), float64, of standardised energies by shifts (1/A) and left turns (1/radian)."""
    with torch.enable_grad():
        shift = torch.zeros(flat.n_units, 3, dtype=flat.frac_origins.dtype, requires_grad=True)
        turn = torch.zeros(flat.n_units, 3, dtype=flat.frac_origins.dtype, requires_grad=True)
        energy = model.standardized(moved(flat, shift, turn), level).sum()
        by_shift, by_turn = torch.autograd.grad(energy, (shift, turn))
    return by_shift, by_turn


@dataclass(frozen=True)
class PhysicsGuide:
    """Guidance by a potential's own gradient at the denoised estimate.

    Attributes
    ----------
    potential : callable
        See `PotentialGradient`. Every call costs evaluations: count them in the callable.
    energy_scale : float
        eV per formula unit that make one standard deviation.
    max_sigma : float
        A; above it the estimate is too rough to be worth an evaluation.
    """

    potential: PotentialGradient
    energy_scale: float
    max_sigma: float = 0.5

    def __call__(self, state: DenoisingState) -> tuple[Tensor, Tensor]:
        zero = torch.zeros(state.noised.n_units, 3, dtype=torch.float64)
        if state.position_sigma > self.max_sigma:
            return zero, zero
        shifts, turns = [], []
        for part in batches_of(state.denoised):
            _, by_shift, by_turn = self.potential(part)
            shifts.append(by_shift.reshape(-1, 3).to(torch.float64))
            turns.append(by_turn.reshape(-1, 3).to(torch.float64))
        return torch.cat(shifts) / self.energy_scale, torch.cat(turns) / self.energy_scale


def clip_vectors(vectors: Tensor, longest: float | None) -> Tensor:
    """Shorten vectors (N, 3) longer than ``longest`` to it; zero those that are not finite.

    Raises
    ------
    ComputationError
        More than half of them are not finite.
    """
    finite = torch.isfinite(vectors).all(-1)
    if len(finite) and float(finite.double().mean()) < 0.5:
        raise ComputationError("guidance: more than half of the energy gradients are not finite; check the potential")
    vectors = torch.where(finite[:, None], vectors, torch.zeros_like(vectors))
    if longest is None:
        return vectors
    norm = torch.linalg.vector_norm(vectors, dim=-1, keepdim=True)
    return vectors * (longest / norm.clamp_min(longest))

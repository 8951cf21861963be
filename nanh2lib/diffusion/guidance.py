"""Energy guidance of the faithful model: a deterministic correction toward lower predicted energy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from nanh2lib.diffusion.models import EnergyModel, NoiseModel
from nanh2lib.errors import ComputationError, InputError

EnergyGradient = Callable[[Tensor, Tensor, Tensor], Tensor]
"""(standardised z_t (B, D), mask (B, D), template numbers (B,)) -> dE_std/dz_t (B, D)."""


@dataclass(frozen=True)
class PredictedEnergyGradient:
    """Gradient of the energy model's prediction with respect to z_t of the noise model.

    Attributes
    ----------
    noise, energy : NoiseModel, EnergyModel
        Each with its own column statistics; the change of units between them is part of the
        gradient.
    max_norm : float or None
        Longest gradient of one sample; longer ones are shortened to it.
    """

    noise: NoiseModel
    energy: EnergyModel
    max_norm: float | None = None

    def __post_init__(self) -> None:
        if self.noise.statistics.width != self.energy.statistics.width:
            raise InputError(
                f"guidance: the noise model reads z of length {self.noise.statistics.width}, the energy model "
                f"{self.energy.statistics.width}; train both on the same vectors"
            )
        if self.energy.network.n_templates and self.energy.library.templates != self.noise.library.templates:
            raise InputError("guidance: the two models know different templates; train both on the same vectors")

    def energies(self, z: Tensor, mask: Tensor, template_index: Tensor) -> Tensor:
        """Standardised energy (B,) of z (B, D) in the noise model's units."""
        ours, theirs = self.noise.statistics, self.energy.statistics
        scale = (ours.scale / theirs.scale).to(z.dtype)
        shift = ((ours.mean - theirs.mean) / theirs.scale).to(z.dtype)
        moved = (z * scale + shift) * mask.to(z.dtype)
        energy: Tensor = self.energy.network(moved, mask, template_index)
        return energy

    def __call__(self, z: Tensor, mask: Tensor, template_index: Tensor) -> Tensor:
        """dE_std/dz (B, D).

        Raises
        ------
        ComputationError
            The gradient is not finite.
        """
        with torch.enable_grad():
            variable = z.detach().requires_grad_(True)
            (gradient,) = torch.autograd.grad(self.energies(variable, mask, template_index).sum(), variable)
        return clip_norm(gradient, self.max_norm)


def clip_norm(gradient: Tensor, max_norm: float | None) -> Tensor:
    """Shorten rows (B, D) longer than ``max_norm`` to it.

    Raises
    ------
    ComputationError
        An entry is not finite.
    """
    if not bool(torch.isfinite(gradient).all()):
        raise ComputationError("guidance: the energy gradient is not finite; lower guidance_scale or set max_gradient")
    if max_norm is None:
        return gradient
    norm = torch.linalg.vector_norm(gradient, dim=-1, keepdim=True)
    return gradient * (max_norm / norm.clamp_min(max_norm))

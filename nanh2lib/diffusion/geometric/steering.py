"""Feynman-Kac steering: a population of denoising crystals, resampled by what they promise to become.

Source: Singhal et al. (2025), "difference" potentials: between two looks the weight of a crystal
changes by exp(-lambda (G_now - G_before)), with G a potential of its denoised estimate, so that the
final weights are exp(-lambda G) times the model's density. Resampling happens when the weights
have become uneven, by the systematic scheme.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from nanh2lib.crystal.asymmetric_unit import AsymmetricUnit
from nanh2lib.errors import InputError

Potential = Callable[[AsymmetricUnit], Tensor]
"""AsymmetricUnit (batch of B) -> G (B,), lower is better; what is not finite counts as infinitely bad."""


@dataclass
class Population:
    """Weights of a batch of denoising crystals.

    Attributes
    ----------
    strength : float
        lambda.
    threshold : float
        Resample when the effective sample size falls below this share of the batch.
    log_weight, last : Tensor, shape (B,)
        Logarithm of the weights since the last resampling; last value of G.
    resamplings : int
    """

    strength: float
    threshold: float
    log_weight: Tensor
    last: Tensor
    resamplings: int = 0

    @classmethod
    def of(cls, size: int, strength: float, threshold: float) -> Population:
        """A population without history (G = 0)."""
        zero = torch.zeros(size, dtype=torch.float64)
        return cls(strength, threshold, zero, zero.clone())

    @property
    def effective_size(self) -> float:
        """1 / sum of squared normalised weights; the whole batch when all are lost."""
        weight = torch.softmax(self.log_weight, 0)
        if not bool(torch.isfinite(weight).all()):
            return float(len(self.log_weight))
        return 1.0 / float((weight**2).sum())

    def look(self, value: Tensor, generator: torch.Generator) -> Tensor | None:
        """Update weights with new values of G.

        Parameters
        ----------
        value : Tensor, shape (B,)
        generator : torch.Generator

        Returns
        -------
        Tensor of int, shape (B,), or None
            Which crystals go on, if the population was resampled.

        Raises
        ------
        InputError
            The potential returned another number of values.
        """
        value = value.to(torch.float64)
        if value.shape != self.last.shape:
            raise InputError(f"steering potential: expected {len(self.last)} values, got {tuple(value.shape)}")
        lost = ~torch.isfinite(value)
        # A lost crystal keeps its last value, so that its weight is right again if it recovers.
        change = torch.where(lost, torch.zeros_like(value), self.last - value)
        self.log_weight = self.log_weight + self.strength * change
        self.last = torch.where(lost, self.last, value)
        weight = torch.where(lost, torch.full_like(value, -torch.inf), self.log_weight)
        if bool(lost.all()):
            return None
        probability = torch.softmax(weight, 0)
        if 1.0 / float((probability**2).sum()) >= self.threshold * len(value):
            return None
        chosen = systematic_resampling(probability, generator)
        self.last = self.last[chosen]
        self.log_weight = torch.zeros_like(self.log_weight)
        self.resamplings += 1
        return chosen


def systematic_resampling(probability: Tensor, generator: torch.Generator) -> Tensor:
    """Numbers (B,) drawn with probabilities (B,): item i appears floor or ceil of B p_i times."""
    count = len(probability)
    offset = torch.rand(1, generator=generator, dtype=torch.float64)
    ticks = (torch.arange(count, dtype=torch.float64) + offset) / count
    cumulative = torch.cumsum(probability.to(torch.float64), 0)
    return torch.searchsorted(cumulative / cumulative[-1], ticks).clamp_max(count - 1)

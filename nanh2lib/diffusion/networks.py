"""The supplement's two networks: plain multilayer perceptrons on the padded vector z."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn


def timestep_embedding(timestep: Tensor, size: int, max_period: float = 10_000.0) -> Tensor:
    """Sinusoidal embedding of timesteps (Vaswani et al. 2017; Ho et al. 2020).

    Parameters
    ----------
    timestep : Tensor, shape (B,)
        0 to T - 1.
    size : int
        Even; half sines, half cosines, periods from 2 pi to 2 pi ``max_period``. Size 1 gives
        the plain number t / 1000 instead.
    max_period : float

    Returns
    -------
    Tensor, shape (B, size), float32
    """
    value = timestep.to(torch.float32)
    if size == 1:
        return value[:, None] / 1000.0
    half = size // 2
    frequency = torch.exp(-math.log(max_period) * torch.arange(half, dtype=torch.float32) / half)
    angle = value[:, None] * frequency
    return torch.cat([angle.sin(), angle.cos()], -1)


def he_uniform_(module: nn.Module, generator: torch.Generator) -> None:
    """Initialise every linear layer: weights He-uniform, U(-sqrt(6 / fan_in), +), biases zero.

    Source: He et al. (2015), named in the supplement.
    """
    for layer in module.modules():
        if isinstance(layer, nn.Linear):
            nn.init.kaiming_uniform_(layer.weight, nonlinearity="relu", generator=generator)
            nn.init.zeros_(layer.bias)


def perceptron(inputs: int, hidden: Sequence[int], outputs: int) -> nn.Sequential:
    """Linear layers with ReLU between them."""
    layers: list[nn.Module] = []
    for width in hidden:
        layers += [nn.Linear(inputs, width), nn.ReLU()]
        inputs = width
    return nn.Sequential(*layers, nn.Linear(inputs, outputs))


class VectorNetwork(nn.Module):
    """What both networks share: how z, its mask and (as an extension) the template go in.

    Parameters
    ----------
    width : int
        D, length of the padded z.
    hidden : sequence of int
        Widths of the hidden layers.
    outputs : int
    extra : int
        Further inputs (the timestep embedding).
    mask_input : bool
        Append the mask to z; without it the padding shows as zeros only.
    n_templates : int
        Above 0: append a one-hot vector of the template (extension, off in the paper's model).
    generator : torch.Generator
        Source of the initial weights.
    """

    def __init__(
        self,
        width: int,
        hidden: Sequence[int],
        outputs: int,
        *,
        extra: int = 0,
        mask_input: bool = False,
        n_templates: int = 0,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        self.width, self.mask_input, self.n_templates = width, mask_input, n_templates
        inputs = width * (2 if mask_input else 1) + extra + n_templates
        self.layers = perceptron(inputs, hidden, outputs)
        he_uniform_(self, generator)

    def assemble(self, z: Tensor, mask: Tensor, template_index: Tensor | None, extra: Tensor | None) -> Tensor:
        """Input rows of the perceptron, shape (B, inputs)."""
        used = mask.to(z.dtype)
        parts = [z * used]
        if self.mask_input:
            parts.append(used)
        if extra is not None:
            parts.append(extra.to(z.dtype))
        if self.n_templates:
            if template_index is None:
                raise ValueError("a network conditioned on the template needs template_index")
            parts.append(nn.functional.one_hot(template_index, self.n_templates).to(z.dtype))
        return torch.cat(parts, -1)


class NoiseNetwork(VectorNetwork):
    """Predicts the noise eps in z_t (three hidden layers of 64 in the supplement).

    Parameters
    ----------
    width : int
        D.
    hidden : sequence of int
    time_embedding : int
        Size of the sinusoidal timestep embedding; 1 for the plain number.
    """

    def __init__(
        self,
        width: int,
        hidden: Sequence[int] = (64, 64, 64),
        *,
        time_embedding: int = 32,
        mask_input: bool = False,
        n_templates: int = 0,
        generator: torch.Generator,
    ) -> None:
        super().__init__(
            width, hidden, width, extra=time_embedding, mask_input=mask_input,
            n_templates=n_templates, generator=generator,
        )  # fmt: skip
        self.time_embedding = time_embedding

    def forward(self, z: Tensor, mask: Tensor, timestep: Tensor, template_index: Tensor | None = None) -> Tensor:
        """Predicted noise (B, D), zero in the padding, for z_t (B, D), mask (B, D) and t (B,)."""
        embedding = timestep_embedding(timestep, self.time_embedding)
        noise: Tensor = self.layers(self.assemble(z, mask, template_index, embedding))
        return noise * mask.to(noise.dtype)


class EnergyNetwork(VectorNetwork):
    """Predicts the standardised energy of z (three hidden layers of 128 in the supplement)."""

    def __init__(
        self,
        width: int,
        hidden: Sequence[int] = (128, 128, 128),
        *,
        mask_input: bool = False,
        n_templates: int = 0,
        generator: torch.Generator,
    ) -> None:
        super().__init__(width, hidden, 1, mask_input=mask_input, n_templates=n_templates, generator=generator)

    def forward(self, z: Tensor, mask: Tensor, template_index: Tensor | None = None) -> Tensor:
        """Standardised energy per formula unit (B,) of z (B, D) with mask (B, D)."""
        energy: Tensor = self.layers(self.assemble(z, mask, template_index, None))
        return energy.squeeze(-1)

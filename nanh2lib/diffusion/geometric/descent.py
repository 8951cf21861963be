"""Downhill on a learned potential, many crystals at a time, units rigid, cell fixed, each unit on its site."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from pydantic import Field
from torch import Tensor
from tqdm import tqdm

from nanh2lib.crystal.asymmetric_unit import AsymmetricUnit
from nanh2lib.crystal.expansion import project
from nanh2lib.diffusion.fit import torch_threads
from nanh2lib.diffusion.geometric.flat_units import FlatUnits, batches_of
from nanh2lib.diffusion.geometric.guidance import energy_gradient
from nanh2lib.diffusion.geometric.model import GeometricEnergyModel
from nanh2lib.diffusion.geometric.reverse import displaced
from nanh2lib.settings import StageSettings


class DescentSettings(StageSettings):
    """How crystals go downhill.

    Attributes
    ----------
    steps : int
        Gradients of each crystal; 0 leaves crystals as they are.
    step : float
        Length of the first moves, A (and radians); they shrink to a hundredth of it along half a cosine.
    batch_size : int
        Crystals that move together.
    """

    steps: int = Field(default=120, ge=0)
    step: float = Field(default=0.08, gt=0)
    batch_size: int = Field(default=64, ge=1)


@dataclass(frozen=True)
class Descent:
    """Where crystals ended.

    Attributes
    ----------
    asymmetric_unit : AsymmetricUnit
        Exactly on their sites.
    energies : Tensor, shape (B,)
        Of the learned potential, eV per formula unit.
    """

    asymmetric_unit: AsymmetricUnit
    energies: Tensor


def descend(
    model: GeometricEnergyModel,
    asymmetric_unit: AsymmetricUnit,
    settings: DescentSettings | None = None,
    *,
    threads: int = 1,
    progress: bool = False,
) -> Descent:
    """Lower the predicted energy of crystals with Adam in the tangent space.

    Parameters
    ----------
    model : GeometricEnergyModel
        Of clean crystals; one that was trained on gradients (`train_potential`) knows the way.
    asymmetric_unit : AsymmetricUnit
        Batch on one template.
    settings : DescentSettings, optional
    threads : int
        Threads of torch.
    progress : bool
        Show a progress bar.

    Returns
    -------
    Descent
        Crystals stay as they were where the potential gives no finite gradient.
    """
    settings = settings or DescentSettings()
    parts, energies = [], []
    starts = range(0, len(asymmetric_unit), settings.batch_size)
    bar: tqdm[Any] = tqdm(total=len(starts) * settings.steps, desc="descent", unit="step", disable=not progress)
    with bar, torch_threads(threads):
        for first in starts:
            part = asymmetric_unit[first : first + settings.batch_size].detach().to(torch.float64)
            parts.append(_descend(model, part, settings, bar))
            energies.append(model.predict([parts[-1]]))
    if not parts:
        return Descent(asymmetric_unit, torch.zeros(0, dtype=torch.float64))
    return Descent(AsymmetricUnit.cat(parts), torch.cat(energies))


def _descend(
    model: GeometricEnergyModel, part: AsymmetricUnit, settings: DescentSettings, bar: tqdm[Any]
) -> AsymmetricUnit:
    flat = FlatUnits.of([project(part)])
    motion = torch.zeros(2, flat.n_units, 3, dtype=torch.float64, requires_grad=True)
    adam = torch.optim.Adam([motion], lr=settings.step, betas=(0.8, 0.95))
    for number in range(settings.steps):
        share = 0.5 * (1 + math.cos(math.pi * number / settings.steps))
        adam.param_groups[0]["lr"] = settings.step * (0.01 + 0.99 * share)
        motion.grad = _finite(torch.stack(energy_gradient(model, flat)))
        adam.step()
        flat = displaced(flat, motion.detach()[0], motion.detach()[1])
        with torch.no_grad():  # the next motion starts from here
            motion.zero_()
        bar.update()
    return project(batches_of(flat)[0])


def _finite(gradient: Tensor) -> Tensor:
    return torch.where(torch.isfinite(gradient), gradient, torch.zeros_like(gradient)).to(torch.float64)

"""Downhill on a learned potential, many crystals at a time, units rigid, cell fixed, each unit on its site."""

from __future__ import annotations

import math
from collections.abc import Sequence
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

    steps: int = Field(default=80, ge=0)
    step: float = Field(default=0.08, gt=0)
    batch_size: int = Field(default=64, ge=1)


@dataclass(frozen=True)
class Descent:
    """Where crystals ended.

    Attributes
    ----------
    units : tuple of AsymmetricUnit
        Batches of one, exactly on their sites, in the order given.
    energies : Tensor, shape (B,)
        Of the learned potential, eV per formula unit.
    """

    units: tuple[AsymmetricUnit, ...]
    energies: Tensor

    @property
    def asymmetric_unit(self) -> AsymmetricUnit:
        """All of them as one batch; only for crystals on one template."""
        return AsymmetricUnit.cat(list(self.units))


def descend(
    model: GeometricEnergyModel,
    crystals: AsymmetricUnit | Sequence[AsymmetricUnit],
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
    crystals : AsymmetricUnit or sequence of AsymmetricUnit
        A batch on one template, or batches of one whose templates, groups and cells may differ.
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
    units = [crystals[i] for i in range(len(crystals))] if isinstance(crystals, AsymmetricUnit) else list(crystals)
    ended: list[AsymmetricUnit] = []
    energies = [torch.zeros(0, dtype=torch.float64)]
    starts = range(0, len(units), settings.batch_size)
    bar: tqdm[Any] = tqdm(total=len(starts) * settings.steps, desc="descent", unit="step", disable=not progress)
    with bar, torch_threads(threads):
        for first in starts:
            part = [unit.detach().to(torch.float64) for unit in units[first : first + settings.batch_size]]
            found = _descend(model, part, settings, bar)
            ended += [batch[i] for batch in found for i in range(len(batch))]
            energies.append(model.predict(found))
    return Descent(tuple(ended), torch.cat(energies))


def _descend(
    model: GeometricEnergyModel, part: Sequence[AsymmetricUnit], settings: DescentSettings, bar: tqdm[Any]
) -> list[AsymmetricUnit]:
    """Batches, one for each run of equal templates."""
    flat = FlatUnits.of([project(unit) for unit in part])
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
    return [project(batch) for batch in batches_of(flat)]


def _finite(gradient: Tensor) -> Tensor:
    return torch.where(torch.isfinite(gradient), gradient, torch.zeros_like(gradient)).to(torch.float64)

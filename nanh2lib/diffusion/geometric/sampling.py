"""Sampling crystals from the geometric model: the reverse process on the torus, SO(3) and the cell.

With y_k the sigma-scaled score of process k at level sigma and sigma' the next level, a step is

    x <- x + (sigma - sigma_down) y + sigma_up n,    n ~ N(0, I),
    sigma_up = eta sigma' sqrt(1 - sigma'^2 / sigma^2),    sigma_down^2 = sigma'^2 - sigma_up^2,

in the tangent space: shifts on the torus, turns exp(.) R on SO(3). eta = 1 is ancestral sampling of
the reverse diffusion, eta = 0 its probability flow (Song et al. 2021; Karras et al. 2022).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from pydantic import Field
from torch import Tensor
from tqdm import tqdm

from nanh2lib.crystal.asymmetric_unit import AsymmetricUnit, Template
from nanh2lib.crystal.expansion import project
from nanh2lib.diffusion.fit import torch_threads
from nanh2lib.diffusion.geometric.guidance import DenoisingState, Guide, clip_vectors
from nanh2lib.diffusion.geometric.model import GeometricModel, remove_drift
from nanh2lib.diffusion.geometric.network import Scores
from nanh2lib.diffusion.geometric.reverse import (
    CLEAN,
    ReverseState,
    Sigmas,
    estimate,
    move,
    select_scores,
    start,
    toward,
)
from nanh2lib.diffusion.geometric.steering import Population, Potential
from nanh2lib.diffusion.sampling import snapshot_steps
from nanh2lib.errors import ComputationError, InputError
from nanh2lib.geometry.lattice import lattice_is_valid, matrix_to_lattice_parameters
from nanh2lib.settings import StageSettings

Corrector = Callable[[AsymmetricUnit], AsymmetricUnit]
"""Takes crystals to better ones on the same template, e.g. by pushing units apart."""


class GeometricSamplingSettings(StageSettings):
    """How crystals are drawn.

    Attributes
    ----------
    count : int
        Crystals.
    steps : int
        Denoising steps, at most the number of noise levels.
    eta : float
        1: ancestral sampling; 0: probability flow.
    guidance_scale : float
        w; 0 turns guides off.
    guidance_max_sigma : float
        A; guides are asked below this noise level only.
    max_guidance : float or None
        Longest correction of one unit, in units of sigma.
    steering_strength, steering_threshold, steering_every, steering_max_sigma
        Feynman-Kac steering by the potential that is handed in: lambda, effective share below
        which the population is resampled, steps between looks, and the largest noise level (A).
    corrector_steps : int
        The corrector that is handed in sees the denoised estimate in that many last steps, and
        the result.
    batch_size : int
        Crystals denoised together; also the population of steering.
    snapshots : int
        Above 0: that many intermediate states are kept.
    threads : int
        Threads of torch.
    seed : int
        Used when no generator is handed in.
    """

    count: int = Field(default=100, ge=1)
    steps: int = Field(default=50, ge=1)
    eta: float = Field(default=1.0, ge=0, le=1)
    guidance_scale: float = Field(default=1.0, ge=0)
    guidance_max_sigma: float = Field(default=1.0, gt=0)
    max_guidance: float | None = Field(default=2.0, gt=0)
    steering_strength: float = Field(default=1.0, ge=0)
    steering_threshold: float = Field(default=0.5, gt=0, le=1)
    steering_every: int = Field(default=5, ge=1)
    steering_max_sigma: float = Field(default=1.0, gt=0)
    corrector_steps: int = Field(default=3, ge=0)
    batch_size: int = Field(default=64, ge=1)
    snapshots: int = Field(default=0, ge=0)
    threads: int = Field(default=1, ge=1)
    seed: int = Field(default=0, ge=0)


@dataclass(frozen=True)
class Tools:
    """What the caller lends to the sampler; each may be missing.

    Attributes
    ----------
    guides : tuple of Guide
        Their gradients are added.
    potential : callable, optional
        For Feynman-Kac steering.
    corrector : callable, optional
    """

    guides: tuple[Guide, ...] = ()
    potential: Potential | None = None
    corrector: Corrector | None = None


@dataclass(frozen=True)
class GeometricSamples:
    """Drawn crystals.

    Attributes
    ----------
    asymmetric_unit : AsymmetricUnit
        Batch of ``count``, exactly on its sites.
    trajectory : tuple of AsymmetricUnit
        Snapshots of the noised crystals, from noise to crystal.
    trajectory_sigmas : tuple of float
        Their noise level of positions, A; 0 for the last.
    resamplings : int
        Of all populations.
    """

    asymmetric_unit: AsymmetricUnit
    trajectory: tuple[AsymmetricUnit, ...] = ()
    trajectory_sigmas: tuple[float, ...] = ()
    resamplings: int = 0


def sample_geometric(
    model: GeometricModel,
    template: Template,
    settings: GeometricSamplingSettings | None = None,
    *,
    lattice_parameters: Tensor | None = None,
    tools: Tools | None = None,
    generator: torch.Generator | None = None,
    progress: bool = True,
) -> GeometricSamples:
    """Draw crystals on a template.

    Parameters
    ----------
    model : GeometricModel
    template : Template
        Need not occur in the training set; its units must.
    settings : GeometricSamplingSettings, optional
    lattice_parameters : Tensor, shape (6,), optional
        Cell that is clamped (or the reference of a free one); default: the training set's mean
        cell of the template.
    tools : Tools, optional
        Guides, steering potential, corrector.
    generator : torch.Generator, optional
        Default: a new one from ``settings.seed``.
    progress : bool
        Show a progress bar.

    Returns
    -------
    GeometricSamples

    Raises
    ------
    InputError
        Unknown units, no cell, a cell that does not fit the space group, too many steps.
    ComputationError
        The denoising diverged.
    """
    settings = settings or GeometricSamplingSettings()
    tools = tools or Tools()
    generator = generator or torch.Generator().manual_seed(settings.seed)
    model.vocabulary.check(template)
    if settings.steps > model.settings.noise.levels:
        raise InputError(f"steps = {settings.steps}: the model has {model.settings.noise.levels} noise levels")
    cell = _cell(model, template, lattice_parameters)
    sizes = [len(part) for part in torch.arange(settings.count).split(settings.batch_size)]
    parts, shots, resamplings = [], [], 0
    bar: tqdm[Any] = tqdm(
        total=settings.steps * len(sizes), desc=f"sampling {template.label}", unit="step", disable=not progress
    )
    with bar, torch_threads(settings.threads):
        for size in sizes:
            units, snapshots, count = denoise(model, template, cell.repeat(size, 1), settings, tools, generator, bar)
            parts.append(units)
            shots.append(snapshots)
            resamplings += count
    moments = list(zip(*shots, strict=True)) if settings.snapshots else []
    return GeometricSamples(
        AsymmetricUnit.cat(parts),
        tuple(AsymmetricUnit.cat([units for _, units in moment]) for moment in moments),
        tuple(moment[0][0] for moment in moments),
        resamplings,
    )


def _cell(model: GeometricModel, template: Template, lattice_parameters: Tensor | None) -> Tensor:
    """The cell to clamp, or the reference of a free one, (6,) float64."""
    if lattice_parameters is None:
        if template not in model.cells.references:
            raise InputError(f"template {template.label}: not in the training set; give lattice_parameters")
        return matrix_to_lattice_parameters(model.cells.references[template])
    cell = lattice_parameters.to(torch.float64).reshape(6)
    if not bool(lattice_is_valid(cell)) or not template.space_group.allows_lattice(cell, 1e-2):
        raise InputError(f"lattice {cell.tolist()} does not fit space group {template.space_group.symbol}")
    return template.space_group.symmetrize_lattice(cell)


def denoise(
    model: GeometricModel,
    template: Template,
    cells: Tensor,
    settings: GeometricSamplingSettings,
    tools: Tools,
    generator: torch.Generator,
    bar: tqdm[Any] | None = None,
) -> tuple[AsymmetricUnit, list[tuple[float, AsymmetricUnit]], int]:
    """The denoising loop: from uniform units on their sites to crystals.

    Parameters
    ----------
    model : GeometricModel
    template : Template
    cells : Tensor, shape (B, 6)
    settings, tools, generator
        As for `sample_geometric`.
    bar : tqdm, optional
        Updated at each step.

    Returns
    -------
    asymmetric_unit : AsymmetricUnit
    snapshots : list of (sigma, AsymmetricUnit)
    resamplings : int
    """
    state = start(model, template, cells, generator)
    population = Population.of(len(cells), settings.steering_strength, settings.steering_threshold)
    levels = torch.linspace(model.settings.noise.levels - 1, 0, settings.steps).round().long().tolist()
    sigmas = [*(Sigmas.at(model, level) for level in levels), CLEAN]
    keep = snapshot_steps(settings.steps, settings.snapshots)
    snapshots: list[tuple[float, AsymmetricUnit]] = []
    for number, level in enumerate(levels):
        sigma, following = sigmas[number], sigmas[number + 1]
        if number in keep:
            snapshots.append((sigma.position, state.asymmetric_unit))
        everywhere = torch.full((len(cells),), level)
        scores = model.scores(state.flat, everywhere, state.strain_state)
        scores = _guided(state, scores, sigma, everywhere, model, settings, tools.guides)
        if tools.corrector is not None and settings.steps - number <= settings.corrector_steps:
            better = tools.corrector(project(estimate(state, scores, sigma, model).asymmetric_unit))
            scores = toward(state, scores, sigma, model, better)
        if tools.potential is not None and _looks(number, sigma, settings):
            promise = project(estimate(state, scores, sigma, model).asymmetric_unit)
            chosen = population.look(tools.potential(promise), generator)
            if chosen is not None:
                state, scores = state.select(chosen), select_scores(scores, chosen)
        state = move(state, scores, sigma, following, settings.eta, model, generator)
        _require_finite(state, sigma)
        if bar is not None:
            bar.update()
    units = project(state.asymmetric_unit)
    if tools.corrector is not None and settings.corrector_steps > 0:
        units = tools.corrector(units)
    if settings.snapshots:
        snapshots.append((0.0, units))
    return units, snapshots, population.resamplings


def _looks(number: int, sigma: Sigmas, settings: GeometricSamplingSettings) -> bool:
    """Whether steering looks at the population in this step; always in the last."""
    if settings.steering_strength == 0 or sigma.position > settings.steering_max_sigma:
        return False
    return number % settings.steering_every == 0 or number + 1 == settings.steps


def _guided(
    state: ReverseState,
    scores: Scores,
    sigma: Sigmas,
    level: Tensor,
    model: GeometricModel,
    settings: GeometricSamplingSettings,
    guides: tuple[Guide, ...],
) -> Scores:
    """Sigma (score - w grad E_std), the correction of each unit clipped."""
    if not guides or settings.guidance_scale == 0 or sigma.position > settings.guidance_max_sigma:
        return scores
    moment = DenoisingState(state.flat, estimate(state, scores, sigma, model).flat, level, sigma.position, sigma.turn)
    position, turn = scores.position, scores.turn
    for guide in guides:
        by_shift, by_turn = guide(moment)
        push = settings.guidance_scale * sigma.position * by_shift
        twist = settings.guidance_scale * sigma.turn * by_turn
        position = position - clip_vectors(push, settings.max_guidance)
        turn = turn - clip_vectors(twist, settings.max_guidance)
    if model.settings.origin == "quotient":
        position = remove_drift(position, state.flat)
    return Scores(position, turn, scores.strain)


def _require_finite(state: ReverseState, sigma: Sigmas) -> None:
    tensors = (state.flat.frac_origins, state.flat.rotations, state.flat.lattice)
    if not all(bool(torch.isfinite(tensor).all()) for tensor in tensors):
        raise ComputationError(
            f"sampling diverged at sigma = {sigma.position:.3g} A; lower guidance_scale or set max_guidance"
        )

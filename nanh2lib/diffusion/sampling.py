"""Guided sampling of vectors z with the supplement's models."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor
from tqdm import tqdm

from nanh2lib.crystal.asymmetric_unit import AsymmetricUnit, Template
from nanh2lib.crystal.encoding import Scheme, ZLayout, decode
from nanh2lib.diffusion.fit import torch_threads
from nanh2lib.diffusion.guidance import EnergyGradient, PredictedEnergyGradient
from nanh2lib.diffusion.models import NoiseModel, PaperModels
from nanh2lib.diffusion.schedule import NoiseSchedule, SolverName, make_solver
from nanh2lib.errors import ComputationError, InputError
from nanh2lib.settings import StageSettings

DEFAULT_SOLVER_STEPS = 50


class SamplingSettings(StageSettings):
    """How samples are drawn.

    Attributes
    ----------
    count : int
        Samples.
    solver : {"ddpm", "ddim", "dpm-solver++", "unipc"}
        ``ddpm`` is the supplement's T-step sampler.
    steps : int or None
        Denoising steps; None: T for ``ddpm``, 50 for the others.
    guidance_scale : float
        w, strength of the energy correction; 0 turns it off.
    guidance_schedule : {"constant", "variance"}
        s_t = 1, or s_t = sigma_t^2 (the posterior variance): w = 1 then tilts the samples by
        exp(-E_std), as in classifier guidance.
    max_gradient : float or None
        Longest energy gradient of a sample (standardised units).
    snapshots : int
        Above 0: that many intermediate states are kept, evenly spread.
    batch_size : int
        Samples denoised together.
    threads : int
        Threads of torch; networks of this size gain nothing from more than one, and lose much
        on a busy machine.
    seed : int
        Used when no generator is handed in.
    """

    count: int = Field(default=1000, ge=1)
    solver: SolverName = "ddpm"
    steps: int | None = Field(default=None, ge=1)
    guidance_scale: float = Field(default=1.0, ge=0)
    guidance_schedule: Literal["constant", "variance"] = "variance"
    max_gradient: float | None = Field(default=None, gt=0)
    snapshots: int = Field(default=0, ge=0)
    batch_size: int = Field(default=1000, ge=1)
    threads: int = Field(default=1, ge=1)
    seed: int = Field(default=0, ge=0)

    def steps_for(self, schedule: NoiseSchedule) -> int:
        """Denoising steps on a schedule."""
        if self.steps is not None:
            return self.steps
        return schedule.timesteps if self.solver == "ddpm" else min(DEFAULT_SOLVER_STEPS, schedule.timesteps)


@dataclass(frozen=True)
class Samples:
    """Sampled vectors.

    Attributes
    ----------
    z : Tensor, shape (N, D), float64
        A, radians, degrees; zeros in the padding.
    mask : Tensor of bool, shape (N, D)
    template_index : Tensor of int, shape (N,)
        Numbers into ``templates``.
    templates : tuple of Template or None
    trajectory : Tensor, shape (S, N, D), or None
        Snapshots from noise to crystal, in the units of z.
    trajectory_timesteps : tuple of int
        Timestep of each snapshot; -1 for the final z.
    """

    z: Tensor
    mask: Tensor
    template_index: Tensor
    templates: tuple[Template | None, ...]
    trajectory: Tensor | None = None
    trajectory_timesteps: tuple[int, ...] = ()

    def __len__(self) -> int:
        return len(self.z)

    def by_template(self) -> list[tuple[Template | None, Tensor, Tensor]]:
        """For each template that occurs: template, row numbers, and z without its padding."""
        parts = []
        for number in torch.unique(self.template_index).tolist():
            rows = (self.template_index == number).nonzero().squeeze(-1)
            used = self.mask[rows[0]]
            parts.append((self.templates[number], rows, self.z[rows][:, used]))
        return parts

    def decode(self, scheme: Scheme) -> list[tuple[AsymmetricUnit, Tensor]]:
        """Asymmetric units by template, each with the numbers of its rows.

        Parameters
        ----------
        scheme : {"split", "paper"}
            The encoding of the training vectors.

        Raises
        ------
        InputError
            The model was trained on bare vectors. Rows whose lattice spans no cell are left out.
        """
        parts = []
        for template, rows, z in self.by_template():
            if template is None:
                raise InputError("these samples have no template; give templates when training the noise model")
            good = ZLayout.for_templates([template], scheme).decodable(z)
            if bool(good.any()):
                parts.append((decode(z[good], template, scheme), rows[good]))
        return parts


def sample(
    models: PaperModels,
    settings: SamplingSettings | None = None,
    *,
    template: Template | int | None = None,
    generator: torch.Generator | None = None,
    gradient: EnergyGradient | None = None,
    progress: bool = True,
) -> Samples:
    """Draw vectors z from the trained models.

    Parameters
    ----------
    models : PaperModels
    settings : SamplingSettings, optional
    template : Template or int, optional
        Template (or its number in the model's library) of all samples; None draws each
        sample's template from the training frequencies.
    generator : torch.Generator, optional
        Source of randomness; default: a new one from ``settings.seed``.
    gradient : callable, optional
        Replaces the gradient of the energy model (see `EnergyGradient`).
    progress : bool
        Show a progress bar.

    Returns
    -------
    Samples

    Raises
    ------
    InputError
        Guidance without an energy model, an unknown template, or too many steps.
    ComputationError
        The denoising diverged.
    """
    settings = settings or SamplingSettings()
    generator = generator or torch.Generator().manual_seed(settings.seed)
    noise_model = models.noise
    if settings.guidance_scale > 0 and gradient is None:
        if models.energy is None:
            raise InputError(
                f"guidance_scale = {settings.guidance_scale} needs an energy model; train one or set it to 0"
            )
        gradient = PredictedEnergyGradient(noise_model, models.energy, settings.max_gradient)
    index = template_numbers(noise_model, template, settings.count, generator)
    steps = settings.steps_for(noise_model.settings.noise_schedule())
    batches = index.split(settings.batch_size)
    parts: list[Tensor] = []
    states: list[Tensor] = []
    times: tuple[int, ...] = ()
    bar: tqdm[Any] = tqdm(total=steps * len(batches), desc="sampling", unit="step", disable=not progress)
    with bar, torch_threads(settings.threads):
        for batch in batches:
            z, kept, times = denoise(noise_model, batch, settings, generator, gradient, bar)
            parts.append(z)
            states.append(kept)
    mask = noise_model.library.masks[index]
    z = noise_model.statistics.restore(torch.cat(parts).to(torch.float64), mask)
    trajectory = None
    if settings.snapshots:
        trajectory = noise_model.statistics.restore(torch.cat(states, 1).to(torch.float64), mask)
    return Samples(z, mask, index, noise_model.library.templates, trajectory, times)


def denoise(
    model: NoiseModel,
    template_index: Tensor,
    settings: SamplingSettings,
    generator: torch.Generator,
    gradient: EnergyGradient | None = None,
    bar: tqdm[Any] | None = None,
) -> tuple[Tensor, Tensor, tuple[int, ...]]:
    """The guided denoising loop: from z_T ~ N(0, I) to z_0, in standardised units.

    Each step is z_{t-1} = step(z_t, eps) - w s_t dE_std/dz_t. A solver step that spans several
    timesteps adds up their s_t, so that w means the same for every solver.

    Parameters
    ----------
    model : NoiseModel
    template_index : Tensor of int, shape (B,)
    settings : SamplingSettings
    generator : torch.Generator
    gradient : callable, optional
        dE_std/dz_t; not called when the guidance scale is 0.
    bar : tqdm, optional
        Updated at each step.

    Returns
    -------
    z : Tensor, shape (B, D)
    snapshots : Tensor, shape (S, B, D)
    timesteps : tuple of int, length S
    """
    schedule = model.settings.noise_schedule()
    solver = make_solver(settings.solver, schedule, settings.steps_for(schedule))
    timesteps: list[int] = [int(t) for t in solver.timesteps]
    strength = guidance_strengths(schedule, timesteps, settings)
    mask, moving = model.library.masks[template_index], model.diffused[template_index]
    still = torch.zeros(mask.shape)  # constant columns stay at their mean
    z = torch.where(moving, torch.randn(mask.shape, generator=generator), still)
    keep = snapshot_steps(len(timesteps), settings.snapshots)
    states, times = [], []
    for number, timestep in enumerate(timesteps):
        if number in keep:
            states.append(z)
            times.append(timestep)
        with torch.no_grad():
            noise = model.network(z, mask, torch.full((len(z),), timestep), template_index)
        if settings.solver == "ddpm" and len(timesteps) == schedule.timesteps:
            fresh = torch.randn(z.shape, generator=generator) if timestep > 0 else still
            following = schedule.ddpm_step(z, noise, timestep, fresh)
        elif settings.solver in ("ddpm", "ddim"):
            following = solver.step(noise, timestep, z, generator=generator).prev_sample
        else:
            following = solver.step(noise, timestep, z).prev_sample
        if gradient is not None and strength[number] > 0:
            following = following - strength[number] * gradient(z, mask, template_index)
        z = torch.where(moving, following, still)
        if not bool(torch.isfinite(z).all()):
            raise ComputationError(
                f"sampling diverged at timestep {timestep}; lower guidance_scale ({settings.guidance_scale}), "
                "set max_gradient, or train the noise model longer"
            )
        if bar is not None:
            bar.update()
    if settings.snapshots:
        states.append(z)
        times.append(-1)
    kept = torch.stack(states) if states else torch.zeros(0, *z.shape)
    return z, kept, tuple(times)


def guidance_strengths(schedule: NoiseSchedule, timesteps: list[int], settings: SamplingSettings) -> list[float]:
    """Guidance scale times the sum of s_t over the timesteps that each solver step spans."""
    if settings.guidance_scale == 0:
        return [0.0] * len(timesteps)
    weights = torch.ones(schedule.timesteps)
    if settings.guidance_schedule == "variance":
        weights = schedule.posterior_variance
    ends = [*timesteps[1:], -1]
    spans = [weights[end + 1 : start + 1].sum() for start, end in zip(timesteps, ends, strict=True)]
    return [settings.guidance_scale * float(span) for span in spans]


def template_numbers(
    model: NoiseModel, template: Template | int | None, count: int, generator: torch.Generator
) -> Tensor:
    """Number (count,) of each sample's template; see `sample`.

    Raises
    ------
    InputError
        The model does not know the template.
    """
    library = model.library
    if template is None:
        return library.draw(count, generator)
    number = template if isinstance(template, int) else library.number_of(template)
    if not 0 <= number < len(library):
        raise InputError(f"template number {number}: the model knows {len(library)} templates, 0 to {len(library) - 1}")
    return torch.full((count,), number)


def snapshot_steps(steps: int, count: int) -> set[int]:
    """Step numbers at which a state is kept; the final state comes on top."""
    if count <= 1:
        return set()
    return {round(i * (steps - 1) / (count - 1)) for i in range(count - 1)} if count > 2 else {0}


def mean_distance(z: Tensor, mask: Tensor, scale: Tensor, limit: int = 500) -> float:
    """Diversity: mean root-mean-square distance between pairs of samples on one template.

    Parameters
    ----------
    z : Tensor, shape (N, D)
    mask : Tensor of bool, shape (N, D)
        Pairs whose masks differ are left out.
    scale : Tensor, shape (D,)
        Column scales, so that 1 is the spread of the training set (times sqrt 2).
    limit : int
        Only the first so many samples are compared.

    Returns
    -------
    float
        NaN when no two samples share a mask.
    """
    z, mask = z[:limit] / scale, mask[:limit]
    same = (mask[:, None] == mask[None]).all(-1)
    same &= ~torch.eye(len(z), dtype=torch.bool)
    squared = ((z[:, None] - z[None]) ** 2 * mask[None]).sum(-1) / mask.sum(-1)
    return float(squared.sqrt()[same].mean()) if bool(same.any()) else float("nan")

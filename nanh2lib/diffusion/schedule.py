"""Noise schedules of denoising diffusion and one step of its reverse process.

Notation of Ho, Jain and Abbeel (2020): beta_t is the variance added at step t, alpha_t =
1 - beta_t, alpha_bar_t = prod_{s<=t} alpha_s and

    z_t = sqrt(alpha_bar_t) z_0 + sqrt(1 - alpha_bar_t) eps,      eps ~ N(0, I).

Timesteps run from 0 (nearly clean) to T - 1 (nearly pure noise), as in ``diffusers``. Everything is
computed in single precision, in the order of operations of ``diffusers``: 1 - alpha_bar_t loses four
digits at the first timesteps, so two codes that round differently would not agree to 1e-6.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor

from nanh2lib.errors import InputError

ScheduleName = Literal["linear", "scaled_linear", "cosine", "sigmoid"]
SolverName = Literal["ddpm", "ddim", "dpm-solver++", "unipc"]
MAX_BETA = 0.999


@dataclass(frozen=True)
class NoiseSchedule:
    """Variances of the forward process.

    Attributes
    ----------
    betas : Tensor, shape (T,), float32
        Variance added at each timestep, in (0, 1).
    alphas_bar : Tensor, shape (T,), float32
        prod_{s<=t} (1 - beta_s).
    """

    betas: Tensor
    alphas_bar: Tensor = field(init=False)

    def __post_init__(self) -> None:
        valid = self.betas.ndim == 1 and len(self.betas) >= 2
        if not valid or not bool(((self.betas > 0) & (self.betas < 1)).all()):
            raise InputError("noise schedule: give at least two betas, each above 0 and below 1")
        object.__setattr__(self, "betas", self.betas.to(torch.float32))
        object.__setattr__(self, "alphas_bar", torch.cumprod(1 - self.betas, 0))

    @classmethod
    def named(
        cls, name: ScheduleName, timesteps: int = 1000, beta_start: float = 1e-4, beta_end: float = 0.02
    ) -> NoiseSchedule:
        """Schedule by name.

        Parameters
        ----------
        name : {"linear", "scaled_linear", "cosine", "sigmoid"}
            Linear in beta (Ho 2020), linear in sqrt(beta) (Rombach 2022), squared cosine in
            alpha_bar (Nichol and Dhariwal 2021), sigmoid in beta (Xu 2022).
        timesteps : int
            T, 2 or more.
        beta_start, beta_end : float
            First and last beta; the cosine schedule has none of its own and ignores them.

        Raises
        ------
        InputError
            The name is unknown or a number is out of range.
        """
        if timesteps < 2:
            raise InputError(f"timesteps = {timesteps}: give 2 or more")
        if not 0 < beta_start <= beta_end < 1:
            raise InputError(f"beta_start = {beta_start}, beta_end = {beta_end}: need 0 < start <= end < 1")
        if name == "linear":
            betas = torch.linspace(beta_start, beta_end, timesteps)
        elif name == "scaled_linear":
            betas = torch.linspace(math.sqrt(beta_start), math.sqrt(beta_end), timesteps) ** 2
        elif name == "sigmoid":
            betas = torch.sigmoid(torch.linspace(-6, 6, timesteps)) * (beta_end - beta_start) + beta_start
        elif name == "cosine":
            edges = torch.arange(timesteps + 1, dtype=torch.float64) / timesteps
            alpha_bar = torch.cos((edges + 0.008) / 1.008 * math.pi / 2) ** 2
            betas = (1 - alpha_bar[1:] / alpha_bar[:-1]).clamp_max(MAX_BETA)
        else:
            raise InputError(f"noise schedule {name!r} is unknown; choose linear, scaled_linear, cosine or sigmoid")
        return cls(betas)

    @property
    def timesteps(self) -> int:
        """T."""
        return len(self.betas)

    @property
    def alphas_bar_previous(self) -> Tensor:
        """alpha_bar_{t-1}, with 1 before the first step, shape (T,)."""
        return torch.cat([torch.ones(1), self.alphas_bar[:-1]])

    @property
    def posterior_variance(self) -> Tensor:
        """sigma_t^2 = (1 - alpha_bar_{t-1}) / (1 - alpha_bar_t) beta_t, shape (T,); 0 at t = 0."""
        beta = 1 - self.alphas_bar / self.alphas_bar_previous
        return (1 - self.alphas_bar_previous) / (1 - self.alphas_bar) * beta

    @property
    def signal_to_noise(self) -> Tensor:
        """alpha_bar_t / (1 - alpha_bar_t), shape (T,)."""
        return self.alphas_bar / (1 - self.alphas_bar)

    def add_noise(self, clean: Tensor, noise: Tensor, timestep: Tensor) -> Tensor:
        """z_t of the forward process.

        Parameters
        ----------
        clean, noise : Tensor, shape (B, D)
        timestep : Tensor of int, shape (B,)

        Returns
        -------
        Tensor, shape (B, D)
        """
        alpha_bar = self.alphas_bar[timestep].to(clean.dtype)[:, None]
        return alpha_bar.sqrt() * clean + (1 - alpha_bar).sqrt() * noise

    def estimate_clean(self, noised: Tensor, predicted_noise: Tensor, timestep: int) -> Tensor:
        """z_0 estimated from z_t (B, D) and the predicted noise (B, D)."""
        alpha_bar = self.alphas_bar[timestep]
        clean: Tensor = (noised - (1 - alpha_bar) ** 0.5 * predicted_noise) / alpha_bar**0.5
        return clean

    def ddpm_step(self, noised: Tensor, predicted_noise: Tensor, timestep: int, noise: Tensor) -> Tensor:
        """One ancestral step z_t -> z_{t-1}.

        Parameters
        ----------
        noised, predicted_noise, noise : Tensor, shape (B, D)
            z_t, the network's estimate of eps, and fresh N(0, I); the latter is not used at t = 0.
        timestep : int

        Returns
        -------
        Tensor, shape (B, D)
            Ho et al. (2020), eq. 6 and 7, with the posterior variance as sigma_t^2.
        """
        alpha_bar, previous = self.alphas_bar[timestep], self.alphas_bar_previous[timestep]
        # As in diffusers: alpha_t and beta_t from the ratio of the products.
        alpha = alpha_bar / previous
        clean = self.estimate_clean(noised, predicted_noise, timestep)
        clean_weight = previous**0.5 * (1 - alpha) / (1 - alpha_bar)
        noised_weight = alpha**0.5 * (1 - previous) / (1 - alpha_bar)
        mean: Tensor = clean_weight * clean + noised_weight * noised
        if timestep == 0:
            return mean
        return mean + self.posterior_variance[timestep] ** 0.5 * noise


def make_solver(name: SolverName, schedule: NoiseSchedule, steps: int) -> Any:
    """A ``diffusers`` scheduler on our betas, its timesteps set.

    Parameters
    ----------
    name : {"ddpm", "ddim", "dpm-solver++", "unipc"}
    schedule : NoiseSchedule
    steps : int
        Denoising steps, at most T.

    Returns
    -------
    diffusers scheduler
        ``trailing`` spacing (the first step starts from pure noise) and no clipping of samples:
        z is standardised, not an image in [-1, 1].

    Raises
    ------
    InputError
        Unknown name, or more steps than the schedule has.
    """
    import diffusers

    if not 1 <= steps <= schedule.timesteps:
        raise InputError(f"steps = {steps}: give 1 to {schedule.timesteps}, the timesteps of the noise schedule")
    common = {"num_train_timesteps": schedule.timesteps, "trained_betas": schedule.betas.numpy()}
    common["timestep_spacing"] = "trailing"
    if name == "ddpm":
        solver = diffusers.DDPMScheduler(**common, clip_sample=False)
    elif name == "ddim":
        solver = diffusers.DDIMScheduler(**common, clip_sample=False)
    elif name == "dpm-solver++":
        solver = diffusers.DPMSolverMultistepScheduler(**common, algorithm_type="dpmsolver++")
    elif name == "unipc":
        solver = diffusers.UniPCMultistepScheduler(**common)
    else:
        raise InputError(f"solver {name!r} is unknown; choose ddpm, ddim, dpm-solver++ or unipc")
    solver.set_timesteps(steps)
    return solver

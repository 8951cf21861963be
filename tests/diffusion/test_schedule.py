"""Noise schedules, and our sampler against diffusers'."""

import diffusers
import pytest
import torch

from nanh2lib.diffusion.schedule import NoiseSchedule, make_solver
from nanh2lib.errors import InputError

NAMES = ("linear", "scaled_linear", "cosine", "sigmoid")
DIFFUSERS_NAMES = {"cosine": "squaredcos_cap_v2"}


@pytest.mark.parametrize("name", NAMES)
def test_betas_are_those_of_diffusers(name):
    ours = NoiseSchedule.named(name, 1000)
    theirs = diffusers.DDPMScheduler(1000, beta_schedule=DIFFUSERS_NAMES.get(name, name))
    assert torch.allclose(ours.betas, theirs.betas, atol=1e-7, rtol=1e-6)
    if name != "cosine":
        assert torch.equal(ours.alphas_bar, theirs.alphas_cumprod)
    assert ours.alphas_bar[-1] < 5e-3 if name in ("linear", "cosine") else ours.alphas_bar[-1] < 0.05
    assert bool((ours.alphas_bar.diff() < 0).all())


@pytest.mark.parametrize("name", NAMES)
def test_every_ddpm_step_equals_diffusers(name):
    schedule = NoiseSchedule.named(name, 1000)
    solver = make_solver("ddpm", schedule, 1000)
    z, predicted = torch.randn(2, 16, 12, generator=torch.Generator().manual_seed(0)).unbind(0)
    for timestep in range(1000):
        expected = solver.step(predicted, timestep, z, generator=torch.Generator().manual_seed(7)).prev_sample
        noise = torch.randn(16, 12, generator=torch.Generator().manual_seed(7))
        ours = schedule.ddpm_step(z, predicted, timestep, noise)
        assert torch.allclose(ours, expected, atol=1e-6, rtol=1e-6), timestep


def test_forward_process_has_unit_variance_and_estimate_inverts_it():
    schedule = NoiseSchedule.named("linear", 100)
    generator = torch.Generator().manual_seed(0)
    clean = torch.randn(4000, 2, generator=generator, dtype=torch.float64)
    noise = torch.randn(4000, 2, generator=generator, dtype=torch.float64)
    timestep = torch.full((4000,), 60)
    noised = schedule.add_noise(clean, noise, timestep)
    assert float(noised.var()) == pytest.approx(1.0, abs=0.05)
    assert torch.allclose(schedule.estimate_clean(noised, noise, 60), clean, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_the_noise_is_the_score_of_the_forward_process(name):
    """grad log q(z_t | z_0) by autograd of the explicit Gaussian is -eps / sqrt(1 - alpha_bar_t)."""
    schedule = NoiseSchedule.named(name, 100)
    clean, noise = torch.randn(2, 7, 5, generator=torch.Generator().manual_seed(2), dtype=torch.float64).unbind(0)
    timestep = torch.tensor([0, 1, 10, 30, 50, 80, 99])
    noised = schedule.add_noise(clean, noise, timestep).requires_grad_(True)
    alpha_bar = schedule.alphas_bar[timestep].double()[:, None]
    density = torch.distributions.Normal(alpha_bar.sqrt() * clean, (1 - alpha_bar).sqrt())
    (score,) = torch.autograd.grad(density.log_prob(noised).sum(), noised)
    assert torch.allclose(score, -noise / (1 - alpha_bar).sqrt(), rtol=1e-9)


def test_posterior_variance_is_the_variance_of_the_posterior():
    """q(z_{t-1} | z_t, z_0) by Gaussian conditioning."""
    schedule = NoiseSchedule.named("cosine", 50)
    t = 30
    previous, beta = float(schedule.alphas_bar_previous[t]), float(schedule.betas[t])
    prior, gain, noise = 1 - previous, (1 - beta) ** 0.5, beta
    posterior = prior - (prior * gain) ** 2 / (gain**2 * prior + noise)
    assert float(schedule.posterior_variance[t]) == pytest.approx(posterior, rel=1e-5)
    assert float(schedule.posterior_variance[0]) == 0.0


@pytest.mark.parametrize("name", ["ddim", "dpm-solver++", "unipc"])
def test_solvers_reach_a_gaussian_exactly_known(name):
    """For data N(m, s^2) the optimal noise prediction is known: solvers must land on that Gaussian."""
    schedule = NoiseSchedule.named("linear", 1000)
    solver = make_solver(name, schedule, 50)
    assert int(solver.timesteps[0]) == 999  # trailing: starts from pure noise
    assert not getattr(solver.config, "clip_sample", False)
    mean, deviation = 3.0, 0.5
    z = torch.randn(4000, 1, generator=torch.Generator().manual_seed(1))
    for t in solver.timesteps:
        alpha_bar = float(schedule.alphas_bar[int(t)])
        noise = (1 - alpha_bar) ** 0.5 * (z - alpha_bar**0.5 * mean) / (alpha_bar * deviation**2 + 1 - alpha_bar)
        z = solver.step(noise, t, z).prev_sample
    assert float(z.mean()) == pytest.approx(mean, abs=0.05)
    assert float(z.std()) == pytest.approx(deviation, rel=0.1)


def test_bad_requests_are_refused():
    with pytest.raises(InputError, match="'quadratic' is unknown"):
        NoiseSchedule.named("quadratic")
    with pytest.raises(InputError, match="timesteps = 1"):
        NoiseSchedule.named("linear", 1)
    with pytest.raises(InputError, match="0 < start <= end < 1"):
        NoiseSchedule.named("linear", 10, 0.5, 0.1)
    with pytest.raises(InputError, match="steps = 2000: give 1 to 1000"):
        make_solver("ddim", NoiseSchedule.named("linear"), 2000)
    with pytest.raises(InputError, match="solver 'euler'"):
        make_solver("euler", NoiseSchedule.named("linear"), 10)

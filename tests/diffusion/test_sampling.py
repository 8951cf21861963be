"""Guided sampling with the supplement's models."""

import pytest
import torch

from nanh2lib.crystal.asymmetric_unit import AsymmetricUnit, Site, Template
from nanh2lib.crystal.encoding import ZLayout
from nanh2lib.crystal.rigid_unit import NA, NH2
from nanh2lib.crystal.space_group import default_hall_number
from nanh2lib.diffusion.guidance import PredictedEnergyGradient, clip_norm
from nanh2lib.diffusion.models import PaperModels, TrainingSettings
from nanh2lib.diffusion.sampling import (
    SamplingSettings,
    denoise,
    guidance_strengths,
    mean_distance,
    sample,
    snapshot_steps,
)
from nanh2lib.diffusion.schedule import NoiseSchedule, make_solver
from nanh2lib.diffusion.training import train_energy_model, train_noise_model
from nanh2lib.errors import ComputationError, InputError
from nanh2lib.geometry.rotations import random_rotations


@pytest.fixture(scope="module")
def models(vectors):
    z, mask, energies = vectors
    settings = TrainingSettings(timesteps=60, beta_end=0.25, epochs=300, learning_rate=2e-3, validation_fraction=0.2)
    return PaperModels(
        train_noise_model(z, mask, settings, progress=False),
        train_energy_model(z, mask, energies, settings, progress=False),
    )


def draw(models, **changes):
    return sample(models, SamplingSettings(count=400, guidance_scale=0.0).model_copy(update=changes), progress=False)


def test_samples_have_the_moments_of_the_training_set(models, vectors):
    z = vectors[0]
    drawn = draw(models)
    assert torch.allclose(drawn.z[:, :6].mean(0), z[:, :6].mean(0), atol=0.6)
    assert torch.allclose(drawn.z[:, :6].std(0), z[:, :6].std(0), rtol=0.35)
    assert bool((drawn.z[:, -1] == 8.964).all())  # clamped column, exactly
    assert not drawn.z[~drawn.mask].any()
    share = float((drawn.template_index == drawn.template_index[0]).double().mean())
    assert 0.4 < share < 0.6  # the training frequencies are 60 : 60


def test_sampling_is_reproducible_and_batches_do_not_repeat(models):
    assert torch.equal(draw(models, seed=3).z, draw(models, seed=3).z)
    assert not torch.equal(draw(models, seed=3).z, draw(models, seed=4).z)
    parts = draw(models, batch_size=150, solver="ddim", steps=10)
    assert len(parts) == 400
    assert len(torch.unique(parts.z[:, 0])) == 400


@pytest.mark.parametrize("solver", ["ddpm", "ddim", "dpm-solver++", "unipc"])
@pytest.mark.parametrize("schedule", ["constant", "variance"])
def test_guidance_lowers_the_predicted_energy(models, solver, schedule):
    mask = models.noise.library.masks
    steps = None if solver == "ddpm" else 20
    scale = 0.02 if schedule == "constant" else 2.0
    energy = {}
    for w in (0.0, scale):
        drawn = draw(models, solver=solver, steps=steps, guidance_scale=w, guidance_schedule=schedule, max_gradient=5.0)
        energy[w] = float(models.energy.predict(drawn.z, mask[drawn.template_index]).mean())
    assert energy[scale] < energy[0.0] - 0.02


def test_gradient_is_that_of_the_predicted_energy(models, vectors):
    z, mask, _ = vectors
    guide = PredictedEnergyGradient(models.noise, models.energy)
    index = torch.zeros(len(z), dtype=torch.int64)
    standardized = models.noise.statistics.standardize(z, mask)
    gradient = guide(standardized.float(), mask, index)
    step = torch.zeros_like(standardized)
    step[:, 1] = 1e-3
    difference = (
        models.energy.predict(models.noise.statistics.restore(standardized + step, mask), mask)
        - models.energy.predict(models.noise.statistics.restore(standardized - step, mask), mask)
    ) / (2e-3 * models.energy.energy_scale)
    close = (gradient[:, 1] - difference).abs() < 0.02 + 0.02 * difference.abs()
    assert float(close.double().mean()) > 0.9  # ReLU kinks excepted


def test_gradient_clipping():
    gradient = torch.tensor([[3.0, 4.0], [0.3, 0.4]])
    assert torch.allclose(clip_norm(gradient, 1.0), torch.tensor([[0.6, 0.8], [0.3, 0.4]]))
    assert torch.equal(clip_norm(gradient, None), gradient)
    with pytest.raises(ComputationError, match="not finite"):
        clip_norm(torch.tensor([[float("nan")]]), None)


def test_a_gradient_can_be_handed_in(models):
    drawn = draw(models, guidance_scale=1.0)
    pulled = sample(
        models, SamplingSettings(count=400, guidance_scale=1.0), gradient=lambda z, mask, index: z, progress=False
    )
    assert float(pulled.z[:, :6].std()) < float(drawn.z[:, :6].std())


def test_strength_means_the_same_for_every_solver():
    schedule = NoiseSchedule.named("linear", 100)
    for name in ("constant", "variance"):
        settings = SamplingSettings(guidance_scale=2.0, guidance_schedule=name)
        full = guidance_strengths(schedule, list(range(99, -1, -1)), settings)
        short = guidance_strengths(schedule, [99, 74, 49, 24], settings)
        assert sum(short) == pytest.approx(sum(full))
    assert full[0] == pytest.approx(2 * float(schedule.posterior_variance[99]))


@pytest.mark.parametrize("kind", ["constant", "variance"])
def test_a_guided_step_is_that_of_diffusers_less_the_gradient_at_z_t(models, kind):
    """z_{t-1} = DDPM step - w s_t grad E_std(z_t), with s_t = 1 or sigma_t^2, at every step of a run."""
    noise_model, weight, number = models.noise, 0.7, torch.zeros(9, dtype=torch.int64)
    settings = SamplingSettings(count=9, guidance_scale=weight, guidance_schedule=kind, snapshots=1000)
    gradient = PredictedEnergyGradient(noise_model, models.energy)
    _, states, times = denoise(noise_model, number, settings, torch.Generator().manual_seed(5), gradient)
    assert times == (*range(59, -1, -1), -1)
    schedule = noise_model.settings.noise_schedule()
    theirs = make_solver("ddpm", schedule, 60)
    mask, moving = noise_model.library.masks[number], noise_model.diffused[number]
    generator = torch.Generator().manual_seed(5)
    torch.randn(9, 10, generator=generator)  # z_T
    for z, after, t in zip(states[:-1], states[1:], times[:-1], strict=True):
        with torch.no_grad():
            noise = noise_model.network(z, mask, torch.full((9,), t), number)
        step = theirs.step(noise, t, z, generator=generator).prev_sample
        strength = 1.0 if kind == "constant" else float(schedule.posterior_variance[t])
        expected = step - weight * strength * gradient(z, mask, number)
        assert torch.allclose(after[moving], expected[moving], atol=1e-6, rtol=1e-6), t


def test_trajectory_runs_from_noise_to_sample(models):
    drawn = draw(models, count=5, snapshots=6)
    assert drawn.trajectory.shape == (6, 5, 10)
    assert drawn.trajectory_timesteps[0] == 59
    assert drawn.trajectory_timesteps[-1] == -1
    assert list(drawn.trajectory_timesteps) == sorted(drawn.trajectory_timesteps, reverse=True)
    assert torch.equal(drawn.trajectory[-1], drawn.z)
    assert snapshot_steps(1000, 1) == set()


def test_template_can_be_given(models):
    assert bool((draw(models, count=5).template_index >= 0).all())
    fixed = sample(models, SamplingSettings(count=5, guidance_scale=0), template=1, progress=False)
    assert fixed.template_index.tolist() == [1] * 5
    with pytest.raises(InputError, match="the model knows 2 templates"):
        sample(models, SamplingSettings(count=5, guidance_scale=0), template=2, progress=False)
    with pytest.raises(InputError, match="was not trained on it"):
        sample(models, SamplingSettings(), template=Template(1, (Site(NA, "a"),)), progress=False)


def test_errors(models):
    with pytest.raises(InputError, match="needs an energy model"):
        sample(PaperModels(models.noise), SamplingSettings(), progress=False)
    with pytest.raises(InputError, match="steps = 500"):
        draw(models, solver="ddim", steps=500)
    with pytest.raises(ComputationError, match="diverged at timestep"):
        sample(models, SamplingSettings(), gradient=lambda z, mask, index: z * float("inf"), progress=False)
    with pytest.raises(InputError, match="have no template"):
        draw(models, count=3).decode("split")


def test_diversity_of_a_gaussian_is_root_two():
    z = torch.randn(300, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    mask = torch.ones(300, 8, dtype=torch.bool)
    assert mean_distance(z, mask, torch.ones(8)) == pytest.approx(2**0.5, rel=0.05)
    assert mean_distance(torch.zeros_like(z), mask, torch.ones(8)) == 0.0


def test_real_templates_from_crystals_to_crystals():
    """Asymmetric units in the clamped alpha cell go in, asymmetric units come out."""
    generator = torch.Generator().manual_seed(0)
    cell = torch.tensor([8.964, 10.456, 8.073, 90.0, 90.0, 90.0], dtype=torch.float64)
    templates = []
    for number, count, letter in ((14, 1, "e"), (4, 2, "a")):
        sites = (Site(NA, letter),) * count + (Site(NH2, letter),) * count
        templates.append(Template(default_hall_number(number), sites))
    layout = ZLayout.for_templates(templates, "split")
    rows, masks, owners = [], [], []
    for template in templates:
        units = template.n_units
        origins = torch.rand(40, units, 3, generator=generator, dtype=torch.float64)
        rotations = random_rotations(40 * units, generator).reshape(40, units, 3, 3).clone()
        rotations[:, : units // 2] = torch.eye(3, dtype=torch.float64)
        rows.append(layout.encode(AsymmetricUnit(template, cell.repeat(40, 1), origins, rotations)))
        masks.append(layout.mask(template).repeat(40, 1))
        owners += [template] * 40
    settings = TrainingSettings(timesteps=20, epochs=3)
    noise = train_noise_model(torch.cat(rows), torch.cat(masks), settings, templates=owners, progress=False)
    drawn = sample(
        PaperModels(noise), SamplingSettings(count=30, guidance_scale=0), template=templates[1], progress=False
    )
    ((units, numbers),) = drawn.decode("split")
    assert units.template == templates[1]
    assert torch.equal(numbers, torch.arange(30))
    assert torch.allclose(units.lattice_parameters, cell.expand(30, 6), atol=1e-6)
    mixed = sample(PaperModels(noise), SamplingSettings(count=30, guidance_scale=0), progress=False).decode("split")
    assert sum(len(part) for part, _ in mixed) == 30

"""Guidance and solvers on a tiny run: pairs share their noise, measures mean what they say, bad input is named."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import yaml

from nanh2lib.config import load_config
from nanh2lib.errors import InputError
from nanh2lib.pipeline.guidance import (
    best_sample,
    compare_solvers,
    denoising_frames,
    diversity,
    draw_with,
    guidance_sweep,
    labelled_pairs,
    predicted_energies,
    sample_distance,
    sample_quality,
    spread,
    tightest_contacts,
)
from nanh2lib.pipeline.labels import label_stage
from nanh2lib.pipeline.model import decode_samples, draw, load_models, sample_stage, train
from nanh2lib.pipeline.run import Run, open_run
from nanh2lib.pipeline.search import search_stage
from nanh2lib.validation import contact_filter

TINY = {
    "search": {"space_groups": ["hall:213", "hall:335"], "per_setting": 3, "max_draws_per_setting": 30},
    "training": {"epochs": 4, "timesteps": 12, "batch_size": 4},
    "sampling": {"count": 6},
}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    path: Path = tmp_path_factory.mktemp("config") / "tiny.yaml"
    path.write_text(yaml.safe_dump(TINY))
    made = open_run(tmp_path_factory.mktemp("runs") / "tiny", load_config("smoke", path), progress=False)
    for stage in (search_stage, label_stage, train, sample_stage):
        stage(made)
    return made


def test_weight_zero_is_the_unguided_draw_and_unknown_fields_are_named(run):
    assert torch.equal(draw_with(run, guidance_scale=0.0).z, draw(run, guided=False).z)
    with pytest.raises(InputError, match="guidance_scale"):
        draw_with(run, guidance_weight=1.0)


def test_frames_run_from_noise_to_the_decoded_sample(run):
    samples = draw_with(run, snapshots=4)
    frames, timesteps = denoising_frames(run, samples, 2)
    assert timesteps[-1] == -1
    assert timesteps == sorted(timesteps, reverse=True)
    assert all(len(frame) == 64 for frame in frames)
    last, _ = denoising_frames(run, draw_with(run, snapshots=2), 2)
    assert frames[-1] == last[-1]
    with pytest.raises(InputError, match="row 6 of 6"):
        denoising_frames(run, samples, 6)
    with pytest.raises(InputError, match="snapshots"):
        denoising_frames(run, draw(run), 0)


def test_tightest_contact_of_one_or_more_means_that_the_filter_passes(run):
    samples = draw_with(run, count=40)
    ratios = tightest_contacts(run, samples)
    passed = torch.zeros(40, dtype=torch.bool)
    for unit, rows in decode_samples(run, samples):
        passed[rows] = contact_filter(unit, run.config.validation.limits())
    assert torch.equal(ratios >= 1, passed)
    assert ratios[best_sample(run, samples)] == ratios.max()


def test_quality_counts_and_more_weight_lowers_the_predicted_energy(run):
    sweep = guidance_sweep(run, (0.0, 5.0), count=12, scales=(1.0, 0.5))
    plain = sweep[0.0]
    assert plain.count == plain.decoded == 12
    assert plain.valid[1.0] <= plain.valid[0.5] <= 12
    assert 12 - plain.valid[1.0] <= sum(plain.failed.values())
    low, high = plain.energy_interval
    assert low < plain.energies.mean() < high
    assert sweep[5.0].energies.mean() < plain.energies.mean()
    with pytest.raises(InputError, match="no weight"):
        guidance_sweep(run, (), count=4)


def test_diversity_of_equal_vectors_is_zero_and_of_lonely_ones_is_none(run):
    models, samples = load_models(run), draw_with(run, count=12)
    same = samples.z[:1].expand(4, -1), samples.mask[:1].expand(4, -1), samples.template_index[:1].expand(4)
    assert diversity(models.noise, *same) == 0
    assert sample_quality(run, samples).diversity > 0
    lonely = diversity(models.noise, samples.z[:1], samples.mask[:1], samples.template_index[:1])
    assert lonely != lonely


def test_spread_is_one_on_a_standardised_normal(run):
    models, samples = load_models(run), draw_with(run, count=12)
    moving = models.noise.diffused[samples.template_index]
    signs = torch.where(torch.arange(12)[:, None] % 2 == 0, 1.0, -1.0).double().expand_as(samples.z)
    z = models.noise.statistics.restore(torch.where(moving, signs, torch.zeros_like(signs)), samples.mask)
    assert spread(models.noise, type(samples)(z, samples.mask, samples.template_index, samples.templates)) == 1


def test_solvers_share_their_noise_and_deterministic_ones_agree_with_finer_steps(run):
    models = load_models(run)
    solvers = {"coarse": ("ddim", 3), "fine": ("ddim", 12), "again": ("ddim", 12)}
    found = compare_solvers(run, solvers, count=4, repeats=1, guidance_scale=0.0)
    assert sample_distance(models.noise, found["fine"].samples, found["again"].samples) == 0
    assert sample_distance(models.noise, found["fine"].samples, found["coarse"].samples) > 0
    assert all(result.seconds > 0 for result in found.values())
    with pytest.raises(InputError, match="templates"):
        sample_distance(models.noise, found["fine"].samples, draw_with(run, count=4, seed=5))


def test_predicted_energies_follow_the_vectors(run):
    models, samples = load_models(run), draw_with(run, snapshots=2)
    assert torch.equal(predicted_energies(models, samples), predicted_energies(models, samples, samples.trajectory[-1]))
    with pytest.raises(InputError, match="energy model"):
        predicted_energies(type(models)(models.noise), samples)


def test_pairs_are_labelled_once_and_kept(run):
    pairs = labelled_pairs(run, 2)
    assert len(pairs["guided"]) == len(pairs["unguided"]) == 2
    assert all(-25 < energy < 0 for values in pairs.values() for energy in values)
    assert labelled_pairs(run, 2) == pairs

"""Checkpoints: exact round trip, and one clear error for each way to be broken."""

import json

import pytest
import torch

from nanh2lib.crystal.asymmetric_unit import Site, Template
from nanh2lib.crystal.rigid_unit import NA
from nanh2lib.diffusion.checkpoints import read_checkpoint, write_checkpoint
from nanh2lib.diffusion.models import PaperModels, load_paper_models, save_paper_models
from nanh2lib.diffusion.sampling import SamplingSettings, sample
from nanh2lib.diffusion.training import train_energy_model, train_noise_model
from nanh2lib.errors import CheckpointError


@pytest.fixture(scope="module")
def models(vectors, quick):
    z, mask, energies = vectors
    short = Template(1, (Site(NA, "a"),))
    long = Template(1, (Site(NA, "a"), Site(NA, "a")))
    templates = [long] * 60 + [short] * 60
    noise = train_noise_model(z, mask, quick, templates=templates, progress=False)
    return PaperModels(noise, train_energy_model(z, mask, energies, quick, templates=templates, progress=False))


@pytest.fixture
def saved(models, tmp_path):
    return save_paper_models(tmp_path / "model", models)


def test_round_trip_samples_alike(models, saved):
    loaded = load_paper_models(saved)
    settings = SamplingSettings(count=20, seed=4)
    assert torch.equal(sample(loaded, settings, progress=False).z, sample(models, settings, progress=False).z)
    assert loaded.noise.settings == models.noise.settings
    assert loaded.noise.library.templates == models.noise.library.templates
    assert loaded.energy.history.metrics == models.energy.history.metrics
    assert loaded.energy.energy_mean == models.energy.energy_mean
    assert {path.name for path in saved.parent.iterdir()} == {"model.json", "model.safetensors"}
    assert torch.equal(
        load_paper_models(saved.with_suffix(".safetensors")).noise.statistics.mean, models.noise.statistics.mean
    )


def test_noise_model_alone(models, tmp_path):
    path = save_paper_models(tmp_path / "noise", PaperModels(models.noise))
    assert load_paper_models(path).energy is None


def test_header_says_what_it_is(saved):
    header = json.loads(saved.read_text())
    assert {"format", "format_version", "package_version", "kind", "weights_sha256"} <= set(header)
    assert len(header["payload"]["noise"]["config_hash"]) == 16


def edit(path, **changes):
    header = json.loads(path.read_text())
    header.update(changes)
    path.write_text(json.dumps(header))


def test_missing(tmp_path):
    with pytest.raises(CheckpointError, match=r"absent\.json: no such checkpoint; train a model first"):
        load_paper_models(tmp_path / "absent")


def test_weights_missing(saved):
    saved.with_suffix(".safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"cannot be read .* copy both files"):
        load_paper_models(saved)


@pytest.mark.parametrize("keep", [0.5, 0.0])
def test_truncated_weights(saved, keep):
    weights = saved.with_suffix(".safetensors")
    data = weights.read_bytes()
    weights.write_bytes(data[: int(keep * len(data))])
    with pytest.raises(CheckpointError, match="truncated or from another training"):
        load_paper_models(saved)


def test_truncated_description(saved):
    saved.write_text(saved.read_text()[:200])
    with pytest.raises(CheckpointError, match="not readable as JSON"):
        load_paper_models(saved)


def test_foreign_file(saved):
    saved.write_text('{"model": "something else"}')
    with pytest.raises(CheckpointError, match="not a checkpoint of nanh2lib"):
        load_paper_models(saved)


def test_newer_version(saved):
    edit(saved, format_version=99, package_version="7.0")
    with pytest.raises(CheckpointError, match=r"format 99, written by nanh2lib 7\.0, is newer .* upgrade"):
        load_paper_models(saved)


def test_other_kind(saved):
    edit(saved, kind="geometric")
    with pytest.raises(CheckpointError, match="kind 'geometric', not 'paper'"):
        load_paper_models(saved)


def test_other_architecture(saved):
    header = json.loads(saved.read_text())
    header["payload"]["noise"]["settings"]["noise_hidden"] = [64, 32, 64]
    saved.write_text(json.dumps(header))
    with pytest.raises(CheckpointError, match=r"noise\.layers\.2\.bias is \(64,\) in the file and \(32,\)"):
        load_paper_models(saved)


def test_damaged_settings(saved):
    header = json.loads(saved.read_text())
    header["payload"]["noise"]["settings"]["surprise"] = 1
    saved.write_text(json.dumps(header))
    with pytest.raises(CheckpointError, match=r"damaged or of another version .*surprise"):
        load_paper_models(saved)


def test_interrupted_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = write_checkpoint(tmp_path / "x", "kind", {"a": 1}, {"w": torch.ones(2)}, "first.safetensors")
    with pytest.raises(ValueError, match="Out of range float"):
        write_checkpoint(tmp_path / "x", "kind", {"a": float("nan")}, {"w": torch.zeros(2)}, "second.safetensors")
    assert torch.equal(read_checkpoint(path, "kind").tensors["w"], torch.ones(2))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["first.safetensors", "x.json"]

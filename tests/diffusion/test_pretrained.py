"""The models that ship: whole, small, described, and ready to sample."""

from __future__ import annotations

import hashlib
import json
import shutil
from typing import get_args

import pytest
import torch

import nanh2lib
from nanh2lib.diffusion import pretrained
from nanh2lib.diffusion.checkpoints import weights_path
from nanh2lib.diffusion.pretrained import PretrainedName, pretrained_models, pretrained_names, pretrained_path
from nanh2lib.diffusion.sampling import SamplingSettings, sample
from nanh2lib.errors import CheckpointError, InputError
from nanh2lib.pipeline.draws import general_template, uniform_draws
from nanh2lib.search.lattice_prior import ALPHA_CELL


@pytest.mark.parametrize("name", pretrained_names())
def test_shipped_files_are_whole_small_and_described(name):
    path = pretrained_path(name)
    weights = weights_path(path)
    header = json.loads(path.read_text())
    assert hashlib.sha256(weights.read_bytes()).hexdigest() == header["weights_sha256"]
    assert path.stat().st_size + weights.stat().st_size < 6_000_000
    assert "energy calls spent on the crystals" in path.with_suffix(".md").read_text()


def test_each_name_that_is_offered_ships():
    assert sorted(get_args(PretrainedName)) == pretrained_names()


@pytest.mark.parametrize("name", ["geometric", "geometric_heldout"])
def test_geometric_models_load_and_know_a_potential(name):
    models = pretrained_models(name)
    assert general_template(81) in models.score.vocabulary.templates
    energies = models.energy.predict([uniform_draws(general_template(81), 2, 0)])
    assert torch.isfinite(energies).all()


def test_the_paper_model_samples_at_once():
    models = nanh2lib.pretrained_models("paper")
    template = general_template(81)
    settings = SamplingSettings(count=4, solver="dpm-solver++", steps=5)
    (unit, rows), *others = sample(models, settings, template=template, progress=False).decode("split")
    assert not others
    assert rows.tolist() == [0, 1, 2, 3]
    assert unit.template == template
    assert torch.allclose(unit.lattice_parameters, torch.tensor(ALPHA_CELL, dtype=torch.float64), atol=1e-4)
    assert models.energy is not None


def test_it_is_the_supplements_architecture_on_every_judged_template():
    models = pretrained_models("paper")
    assert (models.noise.settings.noise_hidden, models.energy.settings.energy_hidden) == ((64,) * 3, (128,) * 3)
    assert not models.noise.settings.mask_input
    assert not models.noise.settings.condition_on_template
    for hall in (6, 115, 2, 16, 81):
        assert general_template(hall) in models.noise.library.templates


def test_damage_is_seen(tmp_path, monkeypatch):
    folder = tmp_path / pretrained.DIRECTORY
    shutil.copytree(pretrained_path("paper").parent, folder)
    monkeypatch.setattr(pretrained, "data_directory", lambda: tmp_path)
    weights = weights_path(folder / "paper.json")
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    with pytest.raises(CheckpointError, match="SHA-256 is not the one"):
        pretrained_models("paper")


def test_an_unknown_name_gets_the_nearest():
    with pytest.raises(InputError, match=r"'papers' does not ship with nanh2lib; did you mean 'paper'"):
        pretrained_models("papers")

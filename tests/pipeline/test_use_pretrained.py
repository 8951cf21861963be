"""A run samples with the model that ships: no training, and never over a model of its own."""

from __future__ import annotations

import pytest

from nanh2lib.config import load_config
from nanh2lib.diffusion.pretrained import pretrained_path
from nanh2lib.errors import InputError
from nanh2lib.pipeline.generators import use_pretrained
from nanh2lib.pipeline.model import decode_samples, draw, load_models, model_path
from nanh2lib.pipeline.run import Run, open_run


def new_run(folder, **training) -> Run:
    config = load_config("smoke")
    data = config.model_dump(mode="json")
    data["training"] |= training
    data["sampling"] |= {"solver": "ddim", "steps": 4}
    return open_run(folder, type(config).from_mapping(data), progress=False)


def test_the_shipped_model_is_the_runs(tmp_path):
    run = new_run(tmp_path / "run")
    use_pretrained(run)
    use_pretrained(run)
    assert model_path(run).read_bytes() == pretrained_path("paper").read_bytes()
    assert model_path(run).with_suffix(".md").exists()
    assert load_models(run).energy is not None
    decoded = decode_samples(run, draw(run, count=6))
    assert sum(len(rows) for _, rows in decoded) == 6


def test_a_model_of_its_own_and_another_scheme_are_left_alone(tmp_path):
    run = new_run(tmp_path / "own")
    model_path(run).write_text("{}")
    with pytest.raises(InputError, match=r"a model of its own; sample without --pretrained"):
        use_pretrained(run)
    assert model_path(run).read_text() == "{}"
    with pytest.raises(InputError, match="the shipped model has 'split'"):
        use_pretrained(new_run(tmp_path / "paper", scheme="paper"))

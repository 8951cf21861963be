"""The sensitivity study on a small training set: one change at a time, equal settings computed once, resumable."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from nanh2lib.crystal.encoding import ZLayout
from nanh2lib.crystal.pair_limits import REALISTIC_LIMITS
from nanh2lib.diffusion.models import TrainingSettings
from nanh2lib.diffusion.sampling import SamplingSettings
from nanh2lib.errors import InputError
from nanh2lib.pipeline.draws import general_template, uniform_draws
from nanh2lib.pipeline.model import TrainingSet
from nanh2lib.pipeline.sensitivity import CHOICES, blind_draws, choice, judged_numbers, sensitivity
from nanh2lib.validation.contacts import contact_filter


@pytest.fixture(scope="module")
def data() -> TrainingSet:
    units = uniform_draws(general_template(81), 12, 0)
    layout = ZLayout.for_templates([units.template], "split")
    z = layout.encode(units)
    energies = torch.linspace(-18.2, -18.0, 12, dtype=torch.float64)
    mask = layout.mask(units.template).expand(12, -1)
    return TrainingSet(tuple(f"c{i}" for i in range(12)), (units.template,) * 12, z, mask, energies, {})


BASE = TrainingSettings(epochs=3, timesteps=8, validation_fraction=0.25)
DRAW = SamplingSettings(count=5)
OPTIONS = (choice("T", 4, timesteps=4), choice("T", 8), choice("w", 0.0, guidance_scale=0.0), choice("w", 1.0))


def test_each_choice_is_measured_and_kept(data):
    written: dict[str, dict[str, float]] = {}
    found = sensitivity(data, BASE, DRAW, OPTIONS, on_result=written.__setitem__, progress=False)
    assert list(found) == ["T = 4", "T = 8", "w = 0.0", "w = 1.0"]
    assert written == found
    assert found["T = 8"] == found["w = 1.0"]  # both are the base
    assert found["w = 0.0"]["gain"] == 0.0
    assert found["T = 4"] != found["T = 8"]
    assert all(0 <= row["valid_percent"] <= row["valid_percent_at_0.7"] <= 100 for row in found.values())


def test_an_interrupted_study_goes_on(data):
    written: list[str] = []
    done = {"T = 4": {"spread": 1.0}}
    found = sensitivity(
        data, BASE, DRAW, OPTIONS[:2], done, on_result=lambda name, _: written.append(name), progress=False
    )
    assert written == ["T = 8"]
    assert found["T = 4"] == {"spread": 1.0}


def test_another_training_set_can_be_a_choice(data):
    options = (choice("structures", "raw", structures="raw"),)
    noise = torch.randn(data.z.shape, generator=torch.Generator().manual_seed(0), dtype=data.z.dtype)
    other = dataclasses.replace(data, z=data.z + 0.1 * noise)
    (row,) = sensitivity(data, BASE, DRAW, options, others={"raw": other}, progress=False).values()
    (same,) = sensitivity(data, BASE, DRAW, (choice("structures", "relaxed"),), progress=False).values()
    assert row != same
    with pytest.raises(InputError, match="there is no training set 'raw'"):
        sensitivity(data, BASE, DRAW, options, progress=False)


def test_the_judge_is_asked_for_pushed_apart_samples(data):
    asked: list[int] = []

    def judge(units):
        limits = REALISTIC_LIMITS
        assert all(bool(contact_filter(unit, limits).all()) for unit in units)
        asked.append(len(units))
        return [-18.0 + 0.1 * i for i in range(len(units))]

    (row,) = sensitivity(data, BASE, DRAW, (choice("T", 8),), judge=judge, progress=False).values()
    assert row["judged_count"] == asked[0] > 0
    assert row["judged_median"] == pytest.approx(-18.0 + 0.1 * (asked[0] - 1) / 2)


def test_the_study_covers_what_the_supplement_leaves_open():
    groups = {option.group for option in CHOICES}
    assert groups >= {"T", "schedule", "epochs", "weight w", "validation split", "padding", "structures"}


def test_blind_draws_are_on_the_templates_of_the_training_set_and_are_judged_alike(data):
    drawn = blind_draws(data, 6, 0)
    assert {unit.template for unit in drawn} == set(data.templates)
    assert len({tuple(unit.frac_origins.flatten().tolist()) for unit in drawn}) == 6
    assert blind_draws(data, 6, 0)[3].frac_origins.equal(drawn[3].frac_origins)
    found = judged_numbers(drawn, lambda units: [float(number) for number in range(len(units))])
    assert found["judged_count"] == 6
    assert found["judged_median"] == 2.5

"""Uniform draws: on their sites, hardly ever valid, nearly always valid after push-apart."""

from __future__ import annotations

import pytest
import torch

from nanh2lib.crystal.expansion import expand
from nanh2lib.errors import InputError
from nanh2lib.pipeline.draws import general_template, pass_rates, push_frames, uniform_draws
from nanh2lib.validation.contacts import contact_filter

P21C = 81


def test_draws_follow_the_seed_and_fill_the_cell():
    template = general_template(P21C)
    unit = uniform_draws(template, 3, seed=1)
    assert len(unit) == 3
    assert template.n_atoms == 64
    assert torch.equal(unit.frac_origins, uniform_draws(template, 3, seed=1).frac_origins)
    assert not torch.equal(unit.frac_origins, uniform_draws(template, 3, seed=2).frac_origins)
    assert expand(unit[:1])[0].composition.reduced_formula == "NaH2N"


def test_hardly_any_raw_draw_passes_and_nearly_every_pushed_one():
    rates = pass_rates(P21C, 300, seed=0, pushed=8)
    assert rates.passed[1.0] == 0
    assert rates.passed[0.7] <= 15
    assert rates.pushed_passed >= 7


def test_frames_end_valid():
    frames = push_frames(uniform_draws(general_template(P21C), 1, seed=0), (0, 5, 200))
    assert [bool(contact_filter(frame)[0]) for frame in frames] == [False, False, True]
    with pytest.raises(InputError, match="one crystal"):
        push_frames(uniform_draws(general_template(P21C), 2, seed=0), (0,))


def test_a_cell_without_room_for_general_positions_is_refused():
    with pytest.raises(InputError, match="special"):
        general_template(335)  # Fddd: 32 operations, 16 formula units

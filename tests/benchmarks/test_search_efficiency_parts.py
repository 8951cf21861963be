"""Crystals of the study in a small file, easy templates, trainings without a part, and calls of a guide charged."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from benchmarks.search_efficiency.ablation import NOISED, PARTS, part_settings, train_part
from benchmarks.search_efficiency.crystals import read_crystals, write_crystals
from benchmarks.search_efficiency.judged import EASY, HOLDS_ALPHA, judged_template
from benchmarks.search_efficiency.proposals import Proposer, propose
from nanh2lib.config import load_config
from nanh2lib.crystal.expansion import expand
from nanh2lib.crystal.extraction import extract_asymmetric_unit
from nanh2lib.diffusion.geometric.checkpoint import load_geometric_models
from nanh2lib.errors import InputError
from nanh2lib.pipeline.draws import general_template, uniform_draws
from nanh2lib.pipeline.model_card import charged_calls
from nanh2lib.pipeline.run import open_run
from nanh2lib.records import Candidate, RelaxationResult
from nanh2lib.report.published import reference_structure
from nanh2lib.search.lattice_prior import ALPHA_CELL

ZERO = -18.161


def candidate(name, raw, ended, energy=ZERO, **changes):
    result = RelaxationResult(
        structure=expand(ended)[0], stage="rigid_fixed", potential="chgnet", energy_start=energy + 1.0,
        energy_final=energy, evaluations=12, converged=True, space_group_before=14, space_group_after=62,
        flags=("symmetry_gained",), asymmetric_unit=ended, **changes,
    )  # fmt: skip
    return Candidate(
        id=name, structure=expand(raw)[0], method="random", seed=3, config_hash="abc", package_version="0.1.0",
        asymmetric_unit=raw, relaxations={"rigid_fixed:chgnet": result}, extra={"variant": "default"},
    )  # fmt: skip


@pytest.fixture(scope="module")
def crystals():
    """Two templates in turn, one of them with units on special positions."""
    first, second = uniform_draws(general_template(81), 4, 0), uniform_draws(judged_template("Fddd"), 2, 1)
    return [
        candidate("a", first[0], first[1], fmax=0.04),
        candidate("b", second[0], second[1], float("nan"), max_stress=1.5),
        candidate("c", first[2], first[3]),
    ]


def largest_shift(one, other):
    difference = one.frac_coords - other.frac_coords
    return np.abs((difference - np.round(difference)) @ one.lattice.matrix).max()


def test_crystals_come_back(crystals, tmp_path):
    path = tmp_path / "crystals.npz"
    assert write_crystals(path, iter(crystals)) == 3
    back = {read.id: read for read in read_crystals(path)}
    assert set(back) == {"a", "b", "c"}
    for given in crystals:
        read = back[given.id]
        assert largest_shift(given.structure, read.structure) < 2e-6
        mine, theirs = given.relaxed_fixed, read.relaxed_fixed
        assert largest_shift(mine.structure, theirs.structure) < 2e-6
        assert theirs.asymmetric_unit.template == mine.asymmetric_unit.template
        assert theirs.asymmetric_unit.rotations.dtype == torch.float64
        kept = ("method", "seed", "config_hash", "package_version", "extra")
        assert all(getattr(given, name) == getattr(read, name) for name in kept)
        drop = {"structure": None, "asymmetric_unit": None}
        assert repr(dataclasses.replace(mine, **drop)) == repr(dataclasses.replace(theirs, **drop))
    on_site = back["b"].relaxed_fixed.asymmetric_unit.frac_origins
    exact = crystals[1].relaxed_fixed.asymmetric_unit.frac_origins
    assert (on_site - exact).abs().max() < 1e-7


def test_crystals_that_are_not_relaxed_are_left_out_and_nothing_is_no_file(crystals, tmp_path):
    bare = crystals[0].replace(relaxations={})
    assert write_crystals(tmp_path / "none.npz", [bare]) == 0
    assert not (tmp_path / "none.npz").exists()
    assert write_crystals(tmp_path / "one.npz", [bare, crystals[2]]) == 1


def test_damaged_and_foreign_files_of_crystals_are_refused(crystals, tmp_path):
    path = tmp_path / "crystals.npz"
    write_crystals(path, crystals)
    whole = path.read_bytes()
    for damaged in (whole[: len(whole) // 2], b"", b"PK\x03\x04 no archive"):
        path.write_bytes(damaged)
        with pytest.raises(InputError, match=r"crystals\.npz: no file of the study's crystals"):
            list(read_crystals(path))
    np.savez(path, about=np.array([object()], dtype=object))  # needs pickle: refused
    with pytest.raises(InputError, match="restore it"):
        list(read_crystals(path))
    write_crystals(path, crystals)
    columns = dict(np.load(path))
    np.savez(path, **{**columns, "raw_origins": columns["raw_origins"][:-1]})
    with pytest.raises(InputError, match="do not belong to 3 crystals"):
        list(read_crystals(path))


def test_easy_templates_hold_one_unit_of_each_kind_and_fddd_is_alphas():
    for name in EASY:
        template = judged_template(name)
        assert [site.unit.name for site in template.sites] == ["Na", "NH2"]
        crystal = expand(uniform_draws(template, 1, 0))[0]
        assert len(crystal) == 64
        assert crystal.lattice.parameters == pytest.approx(ALPHA_CELL)
    assert "Fddd" in HOLDS_ALPHA
    assert judged_template("Fddd") == extract_asymmetric_unit(reference_structure("alpha")).template


def test_each_part_changes_its_own_setting_alone():
    config = load_config("smoke")
    whole = part_settings("all-parts", config, 7).geometric
    assert whole.training.epochs == 7
    assert whole.pretraining is None
    found = {}
    for part in PARTS:
        settings = part_settings(part, config, 7).geometric
        mine, theirs = settings.training.model_dump(), whole.training.model_dump()
        flat = {
            f"{key}.{name}" if isinstance(value, dict) else key
            for key, value in mine.items()
            for name in (value if isinstance(value, dict) else [""])
            if (value.get(name) if isinstance(value, dict) else value)
            != (theirs[key].get(name) if isinstance(value, dict) else theirs[key])
        }
        found[part] = flat
        assert settings.structures == ("generated" if part == "unrelaxed-data" else "relaxed_fixed")
        assert settings.guide == ("noised" if part == NOISED else whole.guide)
    assert found == {
        "all-parts": set(), NOISED: set(), "unrelaxed-data": set(),
        "no-torus": {"noise.positions"},
        "no-unit-symmetry": {"noise.orientations"},
        "no-rotation-group": {"noise.orientations"},
        "no-origin-quotient": {"origin"},
        "no-equivariance": {"network.architecture", "origin"},
        "no-space-group": {"network.condition_on_space_group"},
        "no-sites": {"network.condition_on_site"},
    }  # fmt: skip
    with pytest.raises(InputError, match="choose one of all-parts"):
        part_settings("nothing", config)


def test_parts_are_trained_on_one_training_set_and_charged_like_their_guide(tmp_path):
    config = load_config("smoke")
    small = {"features": 8, "channels": 4, "layers": 1, "radial": 6, "plain_hidden": (8,)}
    data = config.model_dump(mode="json")
    for name in ("training", "energy"):
        data["geometric"][name] |= {"epochs": 1, "network": data["geometric"][name]["network"] | small}
    data["geometric"] |= {"dataset": None, "held_out": None}
    config = type(config).from_mapping(data)
    draws = uniform_draws(general_template(81), 6, 0)
    run = open_run(tmp_path, config, progress=False)
    run.store.add(
        candidate(f"c{i}", draws[i], draws[i], ZERO + 0.1 * i).replace(method="random_search") for i in range(6)
    )
    for part in ("no-torus", "no-equivariance", NOISED):
        path = train_part(part, tmp_path, epochs=2, config=config, progress=False)
        models = load_geometric_models(path)
        assert models.score.history.epochs == 2
        assert (models.noised_energy is None) == (part != NOISED)
        assert charged_calls(path.with_suffix(".md")) == 33301
    assert load_geometric_models(tmp_path / "no-torus.json").score.settings.noise.positions == "euclidean"


def test_calls_of_a_guide_are_charged_to_the_proposals():
    template = general_template(81)

    def draw(template, count, seed):
        proposer.counter.evaluations += 7
        return uniform_draws(template, count, seed)

    proposer = Proposer("geometric", "guide-physics", held_out=False, draw=draw)
    batch = propose(proposer, template, 3, 0)
    assert sum(batch.screening) == 7
    assert len(batch.screening) == len(batch.units) > 0
    assert sum(propose(proposer, template, 3, 1).screening) == 7

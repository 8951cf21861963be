"""The geometric model as stages: what it learns from, what is held out, no leak, checkpoint with card, samples."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch

from nanh2lib.config import load_config
from nanh2lib.crystal.asymmetric_unit import AsymmetricUnit
from nanh2lib.crystal.expansion import expand
from nanh2lib.crystal.pair_limits import REALISTIC_LIMITS
from nanh2lib.diffusion.fit import split_rows
from nanh2lib.diffusion.geometric.checkpoint import GeometricModels
from nanh2lib.errors import CheckpointError, InputError
from nanh2lib.pipeline.draws import general_template, uniform_draws
from nanh2lib.pipeline.generators import sample_model, train_model
from nanh2lib.pipeline.geometric import draw_geometric, guides_of, load_geometric, pretrained
from nanh2lib.pipeline.geometric_data import geometric_training_set, withheld
from nanh2lib.pipeline.gradient_labels import Labelled, label_gradients
from nanh2lib.pipeline.learned_potential import learn_potential, like_withheld, usable_rows
from nanh2lib.pipeline.refine import final_key
from nanh2lib.pipeline.run import Run, open_run, write_json
from nanh2lib.pipeline.search import candidates_of
from nanh2lib.ranking import DuplicateSettings
from nanh2lib.ranking.library import CrystalLibrary
from nanh2lib.records import Candidate, RelaxationResult
from nanh2lib.settings import config_hash
from nanh2lib.validation.contacts import contact_filter

SMALL_NETWORK = {"features": 8, "channels": 2, "layers": 1, "radial": 6, "cutoff": 4.0}
SMALL = {
    "model": "geometric",
    "geometric": {
        "training": {"epochs": 2, "noise": {"levels": 20}, "network": SMALL_NETWORK, "validation_fraction": 0.3},
        "energy": {"epochs": 2, "noise": {"levels": 20}, "network": SMALL_NETWORK, "validation_fraction": 0.3},
        "templates": [81],
        "sampling": {"count": 3, "steps": 4},
    },
}
ZERO = -18.16


def relaxed(name: str, unit: AsymmetricUnit, energy: float) -> Candidate:
    """A candidate as the dataset stage leaves it (the energies are made up, the crystals are not)."""
    structure = expand(unit)[0]
    group = unit.space_group_number
    result = RelaxationResult(
        structure, "rigid_fixed", "chgnet", energy + 0.1, energy, 7, True, group, group, asymmetric_unit=unit
    )
    return Candidate(
        id=name,
        structure=structure,
        method="random_search",
        seed=0,
        config_hash="",
        package_version="",
        asymmetric_unit=unit,
        relaxations={"rigid_fixed:chgnet": result},
    )


def shaken(unit: AsymmetricUnit, seed: int) -> AsymmetricUnit:
    """The same crystal, units moved by about 0.01 A."""
    noise = torch.randn(unit.frac_origins.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return unit.replace(frac_origins=unit.frac_origins + 0.001 * noise)


@pytest.fixture(scope="module")
def entries() -> list[Candidate]:
    """Ten crystals on two templates: 0 and 1 are one crystal, 1 at a higher energy; 0 is near alpha."""
    first = uniform_draws(general_template(81), 5, 0)
    second = uniform_draws(general_template(6), 4, 1)
    units = [first[0], shaken(first[0], 0), *(first[i] for i in range(1, 5)), *(second[i] for i in range(4))]
    energies = [ZERO + 0.03, ZERO + 0.2, *(ZERO + 0.1 + 0.01 * i for i in range(8))]
    return [relaxed(f"c{i}", u, e) for i, (u, e) in enumerate(zip(units, energies, strict=True))]


def new_run(folder, entries, **changes) -> Run:
    config = load_config("smoke")
    data = config.model_dump(mode="json") | {"model": SMALL["model"]}
    data["geometric"] = {**SMALL["geometric"], **changes}
    run = open_run(folder, type(config).from_mapping(data), progress=False)
    run.store.add(list(entries))
    for entry in entries:
        for key, result in entry.relaxations.items():
            run.store.set_relaxation(entry.id, key, result, "test")
    return run


@pytest.fixture(scope="module")
def run(entries, tmp_path_factory) -> Run:
    return new_run(tmp_path_factory.mktemp("runs") / "small", entries)


def test_equal_crystals_share_a_group_and_stay_on_one_side(run, entries):
    rules = {"energy_window": 0.5, "amd_window": 0.3, "same_space_group": False}
    settings = run.config.geometric.model_copy(update={"duplicates": DuplicateSettings(**rules)})
    data = geometric_training_set(run, settings)
    assert len(data) == len(entries)
    assert len(set(data.groups)) == len(entries) - 1
    assert data.evaluations == 7 * len(entries)
    places = [data.ids.index(name) for name in ("c0", "c1")]
    assert data.groups[places[0]] == data.groups[places[1]]
    for seed in range(20):
        training, _ = split_rows(len(data), 0.3, seed, list(data.groups))
        assert len({place in training.tolist() for place in places}) == 1


def test_held_out_crystals_take_their_matches_with_them(entries):
    structures = [entry.structure for entry in entries]
    energies = [entry.relaxed_fixed.energy_final for entry in entries]
    rules = DuplicateSettings(amd_window=0.3, same_space_group=False)
    assert withheld(structures, energies, ZERO + 0.07, rules) == {0, 1}
    assert withheld(structures, energies, ZERO - 1, rules) == set()


def holding_out(folder, entries) -> Run:
    """A held-out run; alpha's own relaxation is another test's business: its result is put where it would be kept."""
    run = new_run(folder, entries, held_out={"level": 0.05, "margin": 0.02})
    settings = run.config.dataset.relaxed_fixed
    alpha = entries[0].relaxed_fixed.__dict__ | {"energy_final": ZERO}
    name = f"alpha-{final_key(settings).replace(':', '-')}-{config_hash(settings)}.json"
    write_json(run.path("tables", name), RelaxationResult(**alpha).to_dict())
    return run


def test_held_out_training_set_loses_them(entries, tmp_path):
    run = holding_out(tmp_path / "held", entries)
    data = geometric_training_set(run)
    assert data.left_out == 2
    assert not {"c0", "c1"} & set(data.ids)


def test_library_knows_crystals_again(entries):
    library = CrystalLibrary(DuplicateSettings(energy_window=0.02))
    for entry in entries[2:]:
        library.add(entry.id, entry.structure, entry.relaxed_fixed.energy_final)
    again = expand(shaken(entries[3].asymmetric_unit, 5))[0]
    energy = entries[3].relaxed_fixed.energy_final
    assert library.find(again, energy) == "c3"
    assert library.find(again, energy + 0.1) is None
    assert library.find(entries[0].structure) is None


def test_low_energies_weigh_more(run):
    data = geometric_training_set(run)
    weights = data.weights(0.05)
    assert float(weights.mean()) == pytest.approx(1.0)
    assert int(weights.argmax()) == int(data.energies.argmin())
    assert data.weights(None) is None


def test_stages_train_save_a_card_and_sample(run):
    summary = train_model(run)
    assert summary["structures"] == 10
    assert summary["templates"] == 2
    assert (run.directory / "models" / "geometric.safetensors").exists()
    card = (run.directory / "models" / "geometric.md").read_text()
    assert "chgnet, rigid units, cell fixed" in card
    assert f"| energy calls spent on the crystals | {summary['evaluations_charged']} |" in card
    record = json.loads((run.directory / "stages" / "train_geometric.json").read_text())
    assert record["summary"]["epochs"] == 2
    outcome = sample_model(run)
    assert {name: row["samples"] for name, row in outcome.items() if name != "seconds"} == {
        "P2_1/c, guide none": 3,
        "P2_1/c, guide x0": 3,
    }
    kept = list(candidates_of(run, "geometric_x0", "geometric_none", "geometric_x0_pushed"))
    assert len(kept) == 9
    assert all(candidate.report is not None for candidate in kept)
    assert sample_model(run) == outcome  # nothing is done twice


def test_a_missing_energy_network_is_named(run):
    train_model(run)
    models = load_geometric(run)
    with pytest.raises(CheckpointError, match="guide 'noised': the checkpoint holds no energy network"):
        guides_of(models, "noised")
    settings = run.config.geometric.sampling
    template = general_template(115)  # not in the training set
    samples = draw_geometric(models, template, settings, progress=False)
    assert len(samples.asymmetric_unit) == 3
    late = settings.model_copy(update={"guidance_max_sigma": 0.1, "corrector_steps": 1})
    physical = draw_geometric(models, template, late, "physics", progress=False)
    assert contact_filter(physical.asymmetric_unit, REALISTIC_LIMITS).any()  # the corrector pushed them apart
    steered = draw_geometric(models, template, settings, steering=True, progress=False)
    assert len(steered.asymmetric_unit) == 3
    with pytest.raises(CheckpointError, match="steering"):
        draw_geometric(GeometricModels(models.score), template, settings, steering=True, progress=False)


def test_pretraining_starts_from_pushed_apart_crystals(entries, tmp_path):
    run = new_run(tmp_path / "pre", entries, pretraining={"per_setting": 2, "epochs": 1}, guide="none")
    plain = new_run(tmp_path / "plain", entries, guide="none")
    summary = train_model(run)
    assert train_model(plain)["training_loss"] != summary["training_loss"]
    first = pretrained(run)
    assert first.vocabulary.kinds == load_geometric(run).score.vocabulary.kinds
    assert first.vocabulary.halls == load_geometric(run).score.vocabulary.halls
    assert "1 epochs on 2 pushed-apart crystals a setting" in (run.directory / "models" / "geometric.md").read_text()


POTENTIAL = {
    "shaken": 1,
    "explored_per_setting": 1,
    "refit_epochs": 1,
    "training": SMALL["geometric"]["energy"],
    "descent": {"steps": 3},
}


@pytest.fixture(scope="module")
def learned(entries, tmp_path_factory) -> Run:
    """A run with a learned potential, two settings searched."""
    config = load_config("smoke")
    search = config.search.model_copy(update={"space_groups": ("hall:81", "hall:115")})
    run = new_run(tmp_path_factory.mktemp("runs") / "learned", entries[2:5], potential=POTENTIAL)
    return Run(run.directory, run.config.model_copy(update={"search": search}), progress=False)


def test_a_learned_potential_is_counted_kept_and_gone_on_from(learned):
    summary = train_model(learned)
    labels = summary["gradient_labels"]
    # Each crystal raw, relaxed and shaken; and two random ones where they end and shaken.
    assert labels["evaluations"] == 3 * 3 + 2 * 2
    assert labels["labelled"] + labels["failed"] == labels["evaluations"]
    assert summary["evaluations_charged"] == 7 * 3 + labels["evaluations"]
    assert "force_mae_mev_per_a" in summary["energy_metrics"]
    assert len(guides_of(load_geometric(learned), "x0")) == 1
    path = learned.directory / "models" / "geometric.json"
    settings = learned.config.geometric.model_copy(update={"initial": str(path)})
    more = Run(learned.directory, learned.config.model_copy(update={"geometric": settings}), progress=False)
    data = geometric_training_set(more)
    start = load_geometric(learned)
    again = learn_potential(more, data, "more", start.energy)
    assert again.evaluations == labels["evaluations"] + 4


def test_labels_below_the_held_out_level_are_not_learned_from(learned):
    labels = label_gradients(learned, list(geometric_training_set(learned).units))
    middle = float(labels.energies.median())
    rows = usable_rows(labels, middle)
    assert 0 < len(rows) < len(labels)
    assert all(float(labels.energies[row]) > middle for row in rows)
    assert usable_rows(replace(labels, energies=labels.energies * torch.nan), -torch.inf) == []


def test_explored_crystals_like_a_withheld_one_are_not_learned_from(entries, tmp_path):
    run = holding_out(tmp_path / "alike", entries)
    units = (shaken(entries[0].asymmetric_unit, 7), entries[4].asymmetric_unit)
    none = (torch.zeros(8, 3),) * 2
    labels = Labelled(units, torch.full((2,), ZERO + 1.0, dtype=torch.float64), none, none)
    assert like_withheld(run, labels) == {0}
    assert like_withheld(new_run(tmp_path / "all", entries), labels) == set()


def test_going_downhill_without_a_potential_is_refused(entries, tmp_path):
    run = new_run(tmp_path / "none", entries, pretraining={"per_setting": 1, "epochs": 1, "downhill": True})
    with pytest.raises(InputError, match=r"set geometric\.potential"):
        train_model(run)


def test_nothing_relaxed_is_an_error(tmp_path):
    with pytest.raises(InputError, match="no crystal relaxed with rigid units"):
        train_model(new_run(tmp_path / "empty", []))


def test_a_run_recorded_before_a_setting_existed_is_the_same_run(tmp_path):
    config = load_config("smoke")
    run = open_run(tmp_path / "old", config)
    record = run.directory / "config.json"
    data = json.loads(record.read_text())
    del data["geometric"], data["model"]
    write_json(record, data)
    (run.directory / "stages").mkdir()  # a run that made nothing takes any settings
    assert open_run(tmp_path / "old", config).config == config
    changed = config.model_copy(update={"model": "geometric"})
    with pytest.raises(InputError, match="model differ"):
        open_run(tmp_path / "old", changed)

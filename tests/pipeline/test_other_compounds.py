"""A compound of the user's own through search, labels, training and sampling; what cannot hold it says so."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from nanh2lib.config import load_config
from nanh2lib.errors import InputError
from nanh2lib.pipeline import geometric_data, training_data
from nanh2lib.pipeline.labels import label_stage
from nanh2lib.pipeline.model import sample_stage, train, training_set
from nanh2lib.pipeline.run import Run, open_run
from nanh2lib.pipeline.search import candidates_of, compound_of, search_stage
from tests.store.conftest import make_candidates

COMPOUND = {"name": "KNH2", "units": [{"name": "K"}, {"name": "NH2"}]}


def open_potassium(folder: Path, **training: Any) -> Run:
    """A run of KNH2 in free cells, with a potential that costs nothing."""
    compound, config = folder / "knh2.yaml", folder / "search.yaml"
    compound.write_text(yaml.safe_dump(COMPOUND))
    settings = {
        "search": {
            "z": 2, "space_groups": ["hall:6", "hall:60"], "per_setting": 3, "max_draws_per_setting": 40,
            "lattice": {"kind": "volume", "volume_per_formula_unit": 57.0},
            "pair_limits": {"K-K": 3.2, "K-N": 2.5, "K-H": 2.3, "N-N": 2.7, "N-H": 1.9, "H-H": 1.8},
        },
        "label": {"potential": "tests.gated_calculator:GatedCalculator", "options": {"log": str(folder / "log")}},
        "training": {"epochs": 3, "timesteps": 8, "batch_size": 4, **training},
        "sampling": {"count": 6},
    }  # fmt: skip
    config.write_text(yaml.safe_dump(settings))
    return open_run(folder / "run", load_config("smoke", config, compound=compound), progress=False)


@pytest.fixture(scope="module")
def labelled(tmp_path_factory: pytest.TempPathFactory) -> Run:
    run = open_potassium(tmp_path_factory.mktemp("potassium"))
    search_stage(run)
    label_stage(run)
    return run


def test_models_learn_from_it_and_draw_crystals_of_it(labelled):
    data = training_set(labelled)
    assert len(data) == 6
    assert not data.refused
    assert {site.unit.name for template in data.templates for site in template.sites} == {"K", "NH2"}
    assert train(labelled)["structures"] == 6
    summary = sample_stage(labelled)
    assert summary["guided"]["samples"] == 6
    drawn = [c for c in candidates_of(labelled) if c.method.startswith("paper_")]
    assert drawn
    assert {c.structure.composition.reduced_formula for c in drawn} == {"KH2N"}


def changed(run: Run, part: str, **values: Any) -> Run:
    """The same run with other settings of one part."""
    settings = getattr(run.config, part).model_copy(update=values)
    return Run(run.directory, run.config.model_copy(update={part: settings}), progress=False)


def test_rigid_nanh2_subunits_cannot_hold_it(labelled):
    run = changed(labelled, "training", scheme="paper")
    with pytest.raises(InputError, match=r"cannot hold KNH2 \(K, NH2\); use training.scheme = 'split'"):
        training_set(run)


def test_a_dataset_of_another_compound_is_refused_by_both_models(labelled, monkeypatch):
    sodium = make_candidates(2)
    for module in (training_data, geometric_data):
        monkeypatch.setattr(module, "named_entries", lambda name: sodium)
    said = "dataset 'shipped' holds crystals of NaH2N, but this run is about KNH2"
    with pytest.raises(InputError, match=said):
        training_set(changed(labelled, "training", dataset="shipped"))
    run = changed(labelled, "geometric", dataset="shipped")
    with pytest.raises(InputError, match=said):
        geometric_data.geometric_training_set(run)


def test_a_run_keeps_its_own_compound_wherever_its_folder_goes(tmp_path):
    (tmp_path / "first").mkdir()
    run = open_potassium(tmp_path / "first")
    summary = search_stage(run)
    key = run.settings_key("search", "compound")
    moved = tmp_path / "elsewhere" / "run"
    moved.parent.mkdir()
    run.directory.rename(moved)
    source = tmp_path / "first" / "knh2.yaml"
    source.write_text(yaml.safe_dump({"name": "LiNH2", "units": [{"name": "Li"}, {"name": "NH2"}]}))
    config = tmp_path / "first" / "search.yaml"

    again = open_run(moved, load_config("smoke", config), progress=False)
    assert compound_of(again).name == "KNH2"
    assert again.settings_key("search", "compound") == key
    assert search_stage(again) == summary

    before = {path: path.read_bytes() for path in moved.rglob("*") if path.is_file()}
    with pytest.raises(InputError, match="this run is about KNH2, with other units than the compound 'LiNH2'"):
        open_run(moved, load_config("smoke", config, compound=source), progress=False)
    assert {path: path.read_bytes() for path in moved.rglob("*") if path.is_file()} == before
    source.write_text(yaml.safe_dump(COMPOUND))
    assert open_run(moved, load_config("smoke", config, compound=source), progress=False).config == again.config

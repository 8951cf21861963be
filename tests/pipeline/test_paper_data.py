"""What the paper's model learns from: the shipped dataset, raw or relaxed, charged, without a leak into validation."""

from __future__ import annotations

import json

import pytest
import torch

from nanh2lib.config import load_config
from nanh2lib.diffusion.fit import split_rows
from nanh2lib.diffusion.models import load_paper_models
from nanh2lib.diffusion.sampling import SamplingSettings, sample
from nanh2lib.errors import InputError
from nanh2lib.pipeline import training_data
from nanh2lib.pipeline.model import model_path, train, training_set
from nanh2lib.pipeline.model_study import energy_parity
from nanh2lib.pipeline.run import Run, open_run
from nanh2lib.store.dataset import load_dataset

PER_SETTING = {213: 8, 335: 4, 81: 2, 115: 2}
QUICK = {"dataset": "shipped", "epochs": 3, "timesteps": 12, "validation_fraction": 0.3}


@pytest.fixture(scope="module")
def few():
    """Sixteen entries of the shipped dataset; of F2dd and Fddd several end, relaxed, in one crystal."""
    chosen = []
    for hall, count in PER_SETTING.items():
        members = [e for e in load_dataset() if e.asymmetric_unit.hall_number == hall]
        chosen += sorted(members, key=lambda e: e.relaxed_fixed.energy_final)[:count]
    return chosen


@pytest.fixture
def run_of(few, tmp_path, monkeypatch):
    monkeypatch.setattr(training_data, "named_entries", lambda name: few)

    def make(potential: str = "chgnet", **changes) -> Run:
        config = load_config("smoke")
        data = config.model_dump(mode="json") | {"label": {"potential": potential}}
        data["training"] = QUICK | changes
        return open_run(
            tmp_path / (changes.get("structures") or "run"), type(config).from_mapping(data), progress=False
        )

    return make


def test_relaxed_structures_come_with_the_energy_they_ended_at_and_its_cost(run_of, few):
    data = training_set(run_of())
    assert data.ids == tuple(entry.id for entry in few)
    assert data.energies.tolist() == [entry.relaxed_fixed.energy_final for entry in few]
    assert data.evaluations == sum(entry.relaxed_fixed.evaluations for entry in few)
    assert not data.refused


def test_raw_structures_come_with_theirs_and_cost_one_call_each(run_of, few):
    data = training_set(run_of(structures="generated"))
    assert data.energies.tolist() == [entry.energies["chgnet"] for entry in few]
    assert data.evaluations == len(few)
    assert not torch.equal(data.z, training_set(run_of(structures="relaxed_fixed")).z)


def test_no_validation_crystal_matches_a_training_crystal(run_of, few):
    run = run_of()
    data = training_set(run)
    assert len(set(data.groups)) < len(data), "some relaxed into one crystal"
    matcher = run.config.training.duplicates.matcher()
    structures = [entry.relaxed_fixed.structure for entry in few]
    training, validation = (rows.tolist() for rows in split_rows(len(data), 0.3, 0, list(data.groups)))
    assert validation
    assert not any(matcher.fit(structures[i], structures[j]) for i in training for j in validation)


def test_an_energy_that_the_dataset_lacks_is_named(run_of):
    with pytest.raises(InputError, match=r"at 'sevennet-0'; set label.potential to one of chgnet$"):
        training_set(run_of(potential="sevennet-0"))


def test_training_on_it_is_charged_described_and_ready_to_sample(run_of):
    run = run_of()
    summary = train(run)
    assert summary["structures"] == 16
    assert summary["evaluations_charged"] == training_set(run).evaluations
    record = json.loads((run.directory / "stages" / "train.json").read_text())
    assert record["summary"]["evaluations_charged"] == summary["evaluations_charged"]
    card = model_path(run).with_suffix(".md").read_text()
    assert "the dataset of the package, relaxed_fixed" in card
    assert f"| energy calls spent on the crystals | {summary['evaluations_charged']} |" in card
    models = load_paper_models(model_path(run))
    assert len(sample(models, SamplingSettings(count=3), progress=False)) == 3
    parity = energy_parity(run)
    errors = abs(parity.predicted - parity.reference)[parity.validation]
    assert errors.mean() == pytest.approx(summary["energy_metrics"]["validation_mae"], abs=1e-5)

"""Energy parity and the forward process on a tiny trained run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import yaml

from nanh2lib.config import load_config
from nanh2lib.pipeline.labels import label_stage
from nanh2lib.pipeline.model import load_models, train, training_set
from nanh2lib.pipeline.model_study import energy_parity, noised_crystals
from nanh2lib.pipeline.run import Run, open_run
from nanh2lib.pipeline.search import search_stage
from nanh2lib.report.measurements import space_group_of

TINY = {
    "search": {"space_groups": ["hall:213", "hall:335"], "per_setting": 3, "max_draws_per_setting": 30},
    "training": {"epochs": 4, "timesteps": 12, "batch_size": 4, "validation_fraction": 0.34},
}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    path: Path = tmp_path_factory.mktemp("config") / "tiny.yaml"
    path.write_text(yaml.safe_dump(TINY))
    made = open_run(tmp_path_factory.mktemp("runs") / "tiny", load_config("smoke", path), progress=False)
    for stage in (search_stage, label_stage, train):
        stage(made)
    return made


def test_parity_has_the_labels_and_the_errors_that_training_reported(run):
    parity = energy_parity(run)
    assert np.array_equal(parity.reference, training_set(run).energies.numpy())
    assert sorted([*parity.training, *parity.validation]) == list(range(len(parity.reference)))
    metrics = load_models(run).energy.history.metrics
    for name, rows in (("training", parity.training), ("validation", parity.validation)):
        error = np.abs(parity.predicted[rows] - parity.reference[rows]).mean()
        assert error == pytest.approx(metrics[f"{name}_mae"], abs=1e-5)
        assert np.abs(parity.mean - parity.reference[rows]).mean() == pytest.approx(metrics[f"baseline_{name}_mae"])


def test_noise_moves_units_and_leaves_cell_group_and_molecules(run):
    clean, noised = noised_crystals(run, 0, (-1, 11), seed=0)
    assert clean.lattice.parameters == pytest.approx(noised.lattice.parameters)
    assert np.abs(clean.frac_coords - noised.frac_coords).max() > 1e-3
    template = training_set(run).templates[0]
    assert space_group_of(clean)[1] == template.space_group.number
    again = noised_crystals(run, 0, (-1, 11), seed=0)[1]
    assert np.array_equal(again.frac_coords, noised.frac_coords)

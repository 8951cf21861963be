"""Training: reproducible, resumable after a kill, honest about errors."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
import torch

from nanh2lib.diffusion.fit import make_learning_rate_schedule, split_rows
from nanh2lib.diffusion.models import TrainingSettings
from nanh2lib.diffusion.run_state import NAME
from nanh2lib.diffusion.training import train_energy_model, train_noise_model
from nanh2lib.errors import CheckpointError, ComputationError, InputError


def weights(model):
    return torch.cat([p.detach().flatten() for p in model.network.parameters()])


def test_settings_are_the_supplements():
    settings = TrainingSettings()
    assert (settings.batch_size, settings.learning_rate, settings.min_learning_rate) == (32, 1e-4, 1e-5)
    assert (settings.learning_rate_factor, settings.patience) == (0.6, 20)
    assert (settings.noise_hidden, settings.energy_hidden) == ((64,) * 3, (128,) * 3)
    with pytest.raises(InputError, match="unknown key 'epoch'; did you mean 'epochs'"):
        TrainingSettings.from_mapping({"epoch": 3})
    with pytest.raises(InputError, match="time_embedding = 7"):
        TrainingSettings.from_mapping({"time_embedding": 7})


def test_training_is_reproducible_and_lowers_the_loss(vectors, quick):
    z, mask, _ = vectors
    longer = quick.model_copy(update={"epochs": 60})
    first = train_noise_model(z, mask, longer, progress=False)
    assert torch.equal(weights(first), weights(train_noise_model(z, mask, longer, progress=False)))
    other = longer.model_copy(update={"seed": 1})
    assert not torch.equal(weights(first), weights(train_noise_model(z, mask, other, progress=False)))
    history = first.history
    assert history.epochs == len(history.validation_loss) == len(history.learning_rate) == 60
    assert min(history.validation_loss[-20:]) < 0.9 * history.validation_loss[0]
    assert history.validation_loss[history.best_epoch] == min(history.validation_loss)


def test_learning_rate_falls_on_a_plateau_as_in_the_supplement():
    optimizer = torch.optim.Adam([torch.nn.Parameter(torch.zeros(1))], lr=TrainingSettings().learning_rate)
    schedule = make_learning_rate_schedule(optimizer, TrainingSettings())
    rates = []
    for _ in range(150):
        optimizer.step()
        schedule.step(1.0)
        rates.append(optimizer.param_groups[0]["lr"])
    distinct = sorted(set(rates), reverse=True)
    assert distinct == pytest.approx([1e-4, 6e-5, 3.6e-5, 2.16e-5, 1.296e-5, 1e-5])
    assert rates.count(distinct[1]) == 21  # patience 20, then the epoch that lowers it


def test_energy_model_beats_predicting_the_mean(vectors):
    z, mask, energies = vectors
    settings = TrainingSettings(epochs=150, learning_rate=3e-3, validation_fraction=0.2)
    model = train_energy_model(z, mask, energies, settings, progress=False)
    metrics = model.history.metrics
    assert metrics["validation_mae"] < 0.7 * metrics["baseline_validation_mae"]
    predicted = model.predict(z, mask)
    assert float((predicted - energies).abs().mean()) < 0.7 * float((energies - energies.mean()).abs().mean())


def test_units_and_padding_of_energies(vectors, quick):
    """Shifting and scaling all energies shifts and scales the predictions (E is standardised)."""
    z, mask, energies = vectors
    model = train_energy_model(z, mask, energies, quick, progress=False)
    scaled = train_energy_model(z, mask, 10 * energies + 7, quick, progress=False)
    assert torch.allclose(scaled.predict(z, mask), 10 * model.predict(z, mask) + 7, atol=1e-3)


def test_extensions_train_too(vectors, quick):
    z, mask, energies = vectors
    settings = quick.model_copy(
        update={
            "mask_input": True, "condition_on_template": True, "average_decay": 0.9,
            "max_gradient_norm": 1.0, "learning_rate_schedule": "cosine", "keep": "last",
        }
    )  # fmt: skip
    model = train_noise_model(z, mask, settings, progress=False)
    assert model.network.n_templates == 2
    assert train_energy_model(z, mask, energies, settings, progress=False).history.epochs == 6


def test_no_validation_rows(vectors, quick):
    z, mask, _ = vectors
    settings = quick.model_copy(update={"validation_fraction": 0.0})
    history = train_noise_model(z, mask, settings, progress=False).history
    assert history.validation_loss == history.loss


def test_split_is_seeded_and_keeps_groups_whole():
    groups = [i // 4 for i in range(100)]
    training, validation = split_rows(100, 0.2, 5, groups)
    assert sorted(training.tolist() + validation.tolist()) == list(range(100))
    assert {groups[i] for i in training}.isdisjoint({groups[i] for i in validation})
    assert len(validation) == 20
    again = split_rows(100, 0.2, 5, groups)
    assert torch.equal(again[1], validation)
    assert not torch.equal(split_rows(100, 0.2, 6, groups)[1], validation)
    assert len(split_rows(100, 0.0, 5)[1]) == 0
    with pytest.raises(InputError, match="leaves no training row"):
        split_rows(10, 0.9, 0, [1] * 10)
    with pytest.raises(InputError, match="3 labels for 10"):
        split_rows(10, 0.1, 0, [1, 2, 3])


def test_nan_stops_with_its_place(vectors, quick):
    z, mask, energies = vectors
    broken = energies.clone()
    broken[17] = float("nan")
    with pytest.raises(ComputationError, match="energy of row 17 is nan"):
        train_energy_model(z, mask, broken, quick, progress=False)
    with pytest.raises(ComputationError, match=r"energy model: (validation )?loss of epoch \d+.* is (nan|inf)"):
        train_energy_model(z, mask, energies, quick.model_copy(update={"learning_rate": 1e30}), progress=False)
    with pytest.raises(InputError, match="energies are all"):
        train_energy_model(z, mask, torch.full_like(energies, -18.0), quick, progress=False)
    with pytest.raises(InputError, match="every column of z is constant"):
        train_noise_model(torch.ones(20, 3), None, quick, progress=False)


SCRIPT = """
import sys
import torch
from nanh2lib.diffusion.models import TrainingSettings
from nanh2lib.diffusion.training import train_noise_model
z = torch.randn(200, 12, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
settings = TrainingSettings.model_validate_json(sys.argv[2])
train_noise_model(z, None, settings, run_directory=sys.argv[1], progress=False)
"""


def test_killed_run_ends_with_the_same_weights(tmp_path):
    settings = TrainingSettings(
        timesteps=50, epochs=400, checkpoint_every=5, learning_rate=1e-3, average_decay=0.9, patience=3
    )
    command = [sys.executable, "-c", SCRIPT, str(tmp_path), settings.model_dump_json()]
    killed = subprocess.Popen(command)
    state = tmp_path / NAME
    deadline = time.monotonic() + 100
    while not state.exists() and time.monotonic() < deadline:
        time.sleep(0.005)
    os.kill(killed.pid, signal.SIGKILL)
    assert killed.wait() == -signal.SIGKILL  # it had not finished
    done = len(json.loads(state.read_text())["payload"]["history"]["loss"])
    assert 5 <= done < 400
    settings = settings.model_copy(update={"epochs": done + 7})
    z = torch.randn(200, 12, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    resumed = train_noise_model(z, None, settings, run_directory=tmp_path, progress=False)
    whole = train_noise_model(z, None, settings, progress=False)
    assert torch.equal(weights(resumed), weights(whole))
    assert resumed.history == whole.history
    assert len(list(tmp_path.glob("*.safetensors"))) == 1


def test_run_directory_of_another_run_is_refused(tmp_path, vectors, quick):
    z, mask, _ = vectors
    first = train_noise_model(z, mask, quick, run_directory=tmp_path, progress=False)
    finished = train_noise_model(z, mask, quick, run_directory=tmp_path, progress=False)
    assert torch.equal(weights(first), weights(finished))
    longer = train_noise_model(z, mask, quick.model_copy(update={"epochs": 8}), run_directory=tmp_path, progress=False)
    assert longer.history.loss[:6] == first.history.loss
    with pytest.raises(CheckpointError, match="other data or with other settings"):
        train_noise_model(z + 1e-3, mask, quick, run_directory=tmp_path, progress=False)
    with pytest.raises(CheckpointError, match="other data or with other settings"):
        train_noise_model(z, mask, quick.model_copy(update={"seed": 9}), run_directory=tmp_path, progress=False)

"""Switches for the ablation table: origin shifts, the plain network, conditioning."""

import pytest
import torch

from nanh2lib.crystal.asymmetric_unit import AsymmetricUnit
from nanh2lib.crystal.expansion import expand, project_origins
from nanh2lib.diffusion.geometric.augmentation import admissible_shifts, shift_origins
from nanh2lib.diffusion.geometric.checkpoint import (
    GeometricModels,
    load_geometric_models,
    save_geometric_models,
)
from nanh2lib.diffusion.geometric.flat_units import FlatUnits, batches_of
from nanh2lib.diffusion.geometric.model import GeometricSettings
from nanh2lib.diffusion.geometric.network import NetworkSettings
from nanh2lib.diffusion.geometric.noising import NoiseSettings
from nanh2lib.diffusion.geometric.sampling import GeometricSamplingSettings, sample_geometric
from nanh2lib.diffusion.geometric.training import train_geometric_energy_model, train_geometric_model
from nanh2lib.errors import InputError

SMALL = {
    "epochs": 1,
    "network": {"features": 8, "channels": 2, "layers": 1, "radial": 6, "cutoff": 4.0},
    "noise": {"levels": 20},
}


@pytest.mark.parametrize("name", ["P2_1/c", "P2_1", "P21212", "Fddd"])
def test_shifted_origins_are_the_same_crystals(crystals, name):
    units = crystals[name]
    (moved,) = batches_of(shift_origins(FlatUnits.of([units]), torch.Generator().manual_seed(3)))
    assert torch.allclose(project_origins(units.template, moved.frac_origins), moved.frac_origins, atol=1e-9)
    before, after = expand(units)[0], expand(moved)[0]
    distances = [sorted(s.distance_matrix[s.distance_matrix > 0].round(4)) for s in (before, after)]
    assert distances[0] == pytest.approx(distances[1], abs=2e-4)


def test_admissible_shifts(crystals):
    shifts, directions = admissible_shifts(crystals["P2_1/c"].template)
    assert len(shifts) == 8
    assert len(directions) == 0
    assert admissible_shifts(crystals["P2_1"].template)[1].abs().tolist() == [[0.0, 1.0, 0.0]]


@pytest.mark.parametrize(
    "change",
    [
        {"origin": "augmented"},
        {"origin": "kept"},
        {"network": {**SMALL["network"], "architecture": "plain", "plain_hidden": [32]}, "origin": "augmented"},
        {"network": {**SMALL["network"], "condition_on_space_group": False, "condition_on_site": False}},
        {"noise": {"levels": 20, "positions": "euclidean", "orientations": "tangent"}},
        {"noise": {"levels": 20, "orientations": "so3"}},
    ],
)
def test_each_switch_trains_samples_and_is_saved(crystals, change, tmp_path):
    parts = [AsymmetricUnit.cat([crystals[name]] * 4) for name in ("P2_1/c", "Fddd")]
    settings = GeometricSettings.from_mapping({**SMALL, **change})
    energies = torch.linspace(-18.5, -18.0, 24, dtype=torch.float64)
    models = GeometricModels(
        train_geometric_model(parts, settings, progress=False),
        train_geometric_energy_model(parts, energies, settings, progress=False),
    )
    loaded = load_geometric_models(save_geometric_models(tmp_path / "model", models))
    how = GeometricSamplingSettings(count=3, steps=4)
    first, second = (sample_geometric(m.score, parts[1].template, how, progress=False) for m in (models, loaded))
    assert torch.equal(first.asymmetric_unit.frac_origins, second.asymmetric_unit.frac_origins)
    assert torch.equal(models.energy.predict(parts), loaded.energy.predict(parts))


def test_plain_network_refuses_larger_templates(crystals):
    network = NetworkSettings(architecture="plain", plain_hidden=(8,))
    settings = GeometricSettings(epochs=1, network=network, noise=NoiseSettings(levels=5), validation_fraction=0.0)
    model = train_geometric_model([crystals["Fddd"]], settings, progress=False)
    units = crystals["P2_1/c"]
    with pytest.raises(InputError, match="has room for 1 units of kind Na, a crystal has 4"):
        sample_geometric(
            model, units.template, GeometricSamplingSettings(count=2, steps=2),
            lattice_parameters=units.lattice_parameters[0], progress=False,
        )  # fmt: skip

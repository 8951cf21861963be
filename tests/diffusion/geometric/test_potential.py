"""A learned potential: its labels, its training, and descent that goes down and stays on its sites."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from nanh2lib.config import load_config
from nanh2lib.crystal.asymmetric_unit import AsymmetricUnit
from nanh2lib.crystal.expansion import expand, project
from nanh2lib.diffusion.geometric.descent import DescentSettings, descend
from nanh2lib.diffusion.geometric.flat_units import FlatUnits
from nanh2lib.diffusion.geometric.guidance import energy_gradient
from nanh2lib.diffusion.geometric.model import GeometricEnergyModel, GeometricSettings
from nanh2lib.diffusion.geometric.potential import UnitGradients, formula_units, train_potential
from nanh2lib.energy.potentials import get_calculator
from nanh2lib.errors import ComputationError, InputError
from nanh2lib.pipeline.gradient_labels import label_gradients, shaken
from nanh2lib.pipeline.run import Run
from tests.relaxation.crystals import alpha, p21c

SMALL = {"features": 8, "channels": 4, "layers": 1, "radial": 8, "cutoff": 4.5}


def settings(**changes) -> GeometricSettings:
    return GeometricSettings.from_mapping(
        {"network": SMALL, "epochs": 1, "validation_fraction": 0.0, "batch_size": 4, **changes}, "test"
    )


def labels_of(model: GeometricEnergyModel, units: list[AsymmetricUnit]) -> tuple[torch.Tensor, UnitGradients]:
    """What a network itself says of crystals, as labels."""
    shift, turn = energy_gradient(model, FlatUnits.of(units))
    return model.predict(units), UnitGradients(shift * model.energy_scale, turn * model.energy_scale)


@pytest.fixture(scope="module")
def teacher(crystals) -> GeometricEnergyModel:
    units = list(crystals.values())
    flat = FlatUnits.of(units)
    zero = UnitGradients(torch.zeros(flat.n_units, 3), torch.zeros(flat.n_units, 3))
    energies = torch.linspace(-1, 1, flat.n_crystals, dtype=torch.float64)
    model = train_potential(units, energies, zero, settings(), progress=False)
    with torch.no_grad():
        generator = torch.Generator().manual_seed(5)
        for parameter in model.network.parameters():
            parameter.add_(0.2 * torch.randn(parameter.shape, generator=generator))
    return model


def test_labels_are_minus_the_forces_on_whole_units(tmp_path):
    units = [alpha(), p21c()]
    run = Run(tmp_path, load_config("smoke"), progress=False)
    generator = torch.Generator().manual_seed(0)
    units = [shaken(unit.to(torch.float64), 0.2, 0.4, generator) for unit in units]
    labels = label_gradients(run, units)
    for row, unit in enumerate(units):
        structure = expand(unit)[0]
        atoms = structure.to_ase_atoms(msonable=False)
        atoms.calc = get_calculator("chgnet")
        z = len(structure) // 4
        assert float(labels.energies[row]) == pytest.approx(atoms.get_potential_energy() / z, abs=1e-5)
        owner = np.array(structure.site_properties["unit_index"])
        forces = atoms.get_forces()
        first = 0
        for place, count in enumerate(unit.multiplicities):
            expected = -forces[owner == first].sum(0) * count / z
            assert labels.shifts[row][place].numpy() == pytest.approx(expected, abs=2e-3)
            first += count
    kept = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "gradients").iterdir()}
    again = label_gradients(run, units)
    assert {path.name: path.stat().st_mtime_ns for path in (tmp_path / "gradients").iterdir()} == kept
    assert torch.equal(again.energies, labels.energies)


def test_formula_units_follow_from_the_template(crystals):
    found = {name: formula_units(FlatUnits.of([units]).tables[0]) for name, units in crystals.items()}
    assert found == {name: units.template.n_atoms // 4 for name, units in crystals.items()}


def test_training_lowers_the_errors_of_energies_and_gradients(teacher, crystals):
    units = list(crystals.values())
    energies, gradients = labels_of(teacher, units)
    begin = settings(epochs=1, learning_rate=1e-6, validation_fraction=0.3)
    longer = settings(epochs=60, learning_rate=1e-2, validation_fraction=0.3)
    first = train_potential(units, energies, gradients, begin, progress=False)
    last = train_potential(units, energies, gradients, longer, initial=first, progress=False)
    assert last.history.loss[-1] < 0.5 * first.history.loss[-1]
    assert last.energy_mean == first.energy_mean
    assert set(last.history.metrics) >= {"energy_mae_mev", "force_mae_mev_per_a", "force_mae_of_zero_mev_per_a"}


def test_bad_labels_are_refused(crystals):
    units = [crystals["P2_1/c"]]
    count = FlatUnits.of(units).n_units
    energies = torch.tensor([0.0, 1.0, 2.0], dtype=torch.float64)
    good = torch.zeros(count, 3)
    with pytest.raises(InputError, match=r"shift gradients \(2, 3\); expected"):
        train_potential(units, energies, UnitGradients(good[:2], good), settings(), progress=False)
    with pytest.raises(ComputationError, match="turn gradients are not finite"):
        train_potential(units, energies, UnitGradients(good, good + torch.nan), settings(), progress=False)


@pytest.mark.parametrize("name", ["P2_1/c", "P21212", "Fddd"])
def test_descent_lowers_the_energy_and_keeps_sites_and_cell(teacher, crystals, name):
    units = project(crystals[name])
    found = descend(teacher, units, DescentSettings(steps=15, step=0.02, batch_size=2))
    before, after = teacher.predict([units]), found.energies
    assert bool((after < before).all())
    ended = found.asymmetric_unit
    assert torch.equal(ended.lattice_parameters, units.lattice_parameters)
    again = project(ended)
    torch.testing.assert_close(again.frac_origins, ended.frac_origins, atol=1e-9, rtol=0)
    torch.testing.assert_close(again.rotations, ended.rotations, atol=1e-9, rtol=0)
    alone = descend(teacher, units[2], DescentSettings(steps=15, step=0.02))
    torch.testing.assert_close(alone.asymmetric_unit.frac_origins, ended[2].frac_origins, atol=1e-3, rtol=0)


def test_no_steps_and_no_crystals(teacher, crystals):
    units = project(crystals["P2_1/c"])
    still = descend(teacher, units, DescentSettings(steps=0)).asymmetric_unit
    torch.testing.assert_close(still.rotations, units.rotations)
    assert descend(teacher, units[0:0]).units == ()


def test_templates_may_be_mixed(teacher, crystals):
    how = DescentSettings(steps=5, step=0.02)
    mixed = [crystals["P2_1/c"][0], crystals["Fddd"][0], crystals["P2_1/c"][1]]
    found = descend(teacher, mixed, how)
    assert [unit.template for unit in found.units] == [unit.template for unit in mixed]
    for unit, ended, energy in zip(mixed, found.units, found.energies, strict=True):
        alone = descend(teacher, unit, how)
        torch.testing.assert_close(alone.energies[0], energy, atol=1e-4, rtol=0)
        torch.testing.assert_close(alone.asymmetric_unit.frac_origins, ended.frac_origins, atol=1e-4, rtol=0)

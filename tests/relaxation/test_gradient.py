import numpy as np
import pytest
import torch
from ase.calculators.calculator import Calculator

from nanh2lib.crystal.asymmetric_unit import AsymmetricUnit
from nanh2lib.crystal.encoding import decode, encode
from nanh2lib.crystal.expansion import expand, expand_tensors
from nanh2lib.crystal.primitive import primitive_crystals
from nanh2lib.energy.potentials import get_calculator
from nanh2lib.errors import ComputationError, InputError
from nanh2lib.geometry.lattice import lattice_parameters_to_matrix
from nanh2lib.geometry.rotations import rotation_vector_to_matrix
from nanh2lib.relaxation import EvaluationCounter, crystal_energy, energy_and_gradient
from nanh2lib.relaxation.coordinates import SymmetryCoordinates
from tests.relaxation import crystals

MAKERS = [crystals.alpha, crystals.p21212, crystals.p21c, crystals.fdd2, crystals.pnma, crystals.dry_ice]


def slopes(function, size, step):
    """Central differences of a function of x about zero."""
    result = []
    for i in range(size):
        x = torch.zeros(size, dtype=torch.float64)
        x[i] = step
        result.append((float(function(x)) - float(function(-x))) / (2 * step))
    return torch.tensor(result, dtype=torch.float64)


def energy_at(coordinates, calculator):
    return lambda x: crystal_energy(coordinates.asymmetric_unit(x), calculator, project_sites=False)


@pytest.mark.parametrize("make", MAKERS, ids=lambda make: make.__name__)
def test_free_coordinates_have_the_gradient_of_finite_differences(make):
    coordinates = SymmetryCoordinates.of(make(), free_cell=True)
    energy = energy_at(coordinates, crystals.lennard_jones())
    x = torch.zeros(coordinates.size, dtype=torch.float64, requires_grad=True)
    energy(x).sum().backward()
    expected = slopes(energy, coordinates.size, 1e-5)
    torch.testing.assert_close(x.grad, expected, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("make", [crystals.alpha, crystals.p21212, crystals.p21c], ids=lambda make: make.__name__)
def test_gradient_with_chgnet(make):
    coordinates = SymmetryCoordinates.of(make(), free_cell=True)
    energy = energy_at(coordinates, get_calculator("chgnet"))
    x = torch.zeros(coordinates.size, dtype=torch.float64, requires_grad=True)
    energy(x).sum().backward()
    expected = slopes(energy, coordinates.size, 5e-3)  # float32 energies: a wide step
    scale = expected.abs().max()
    assert (x.grad - expected).abs().max() < 0.03 * scale + 0.02


@pytest.mark.parametrize("make", [crystals.alpha, crystals.fdd2, crystals.p21c], ids=lambda make: make.__name__)
def test_energy_and_gradient_agrees_with_finite_differences(make):
    unit, calculator = make(), crystals.lennard_jones()
    found = energy_and_gradient(unit, calculator)
    inverse = torch.linalg.inv(lattice_parameters_to_matrix(unit.lattice_parameters))
    count = 3 * unit.template.n_units

    def shifted(x):
        return crystal_energy(unit.replace(frac_origins=unit.frac_origins + x.reshape(1, -1, 3) @ inverse), calculator)

    def turned(x):
        return crystal_energy(
            unit.replace(rotations=rotation_vector_to_matrix(x.reshape(1, -1, 3)) @ unit.rotations), calculator
        )

    def strained(x):
        return crystal_energy(unit.replace(lattice_parameters=unit.lattice_parameters + x), calculator)

    torch.testing.assert_close(found.origins.flatten(), slopes(shifted, count, 1e-5), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(found.rotations.flatten(), slopes(turned, count, 1e-5), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(found.lattice_parameters.flatten(), slopes(strained, 6, 1e-5), rtol=1e-4, atol=1e-4)


def test_gradient_reaches_z_through_decode():
    unit, calculator = crystals.p21c(), crystals.lennard_jones()
    z = encode(unit, "split")

    def energy(x):
        return crystal_energy(decode(z + x, unit.template, "split"), calculator)

    x = torch.zeros(z.shape[1], dtype=torch.float64, requires_grad=True)
    energy(x).sum().backward()
    torch.testing.assert_close(x.grad, slopes(energy, len(x), 1e-5), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("make", MAKERS, ids=lambda make: make.__name__)
def test_primitive_cell_is_the_same_crystal(make):
    unit = make()
    full = expand_tensors(unit)
    primitive = primitive_crystals(full, unit.template)
    order = unit.template.space_group.centering_order
    assert len(primitive.species) * order == len(full.species)
    assert torch.linalg.det(primitive.lattice[0]).abs() * order == pytest.approx(
        float(torch.linalg.det(full.lattice[0]).abs())
    )
    whole, part = full.structures()[0], primitive.structures()[0]
    assert whole.get_primitive_structure().matches(part.get_primitive_structure(), primitive_cell=False)
    from nanh2lib.relaxation.gradient import evaluate

    calculator = crystals.lennard_jones()
    energies = [
        evaluate(c.species, c.lattice[0].numpy(), c.frac_coords[0].numpy(), calculator)[0] for c in (full, primitive)
    ]
    assert energies[0] == pytest.approx(order * energies[1], rel=1e-9)


def test_energy_does_not_depend_on_the_choice_of_asymmetric_unit():
    unit, calculator = crystals.p21c(), crystals.lennard_jones()
    group = unit.template.space_group
    rotation = torch.tensor(group.rotations[1], dtype=torch.float64)
    lattice = lattice_parameters_to_matrix(unit.lattice_parameters)[0]
    cart = lattice.T @ rotation @ torch.linalg.inv(lattice).T
    body = torch.diag(torch.tensor([1.0, 1.0, float(torch.linalg.det(cart).round())], dtype=torch.float64))
    origins = unit.frac_origins.clone()
    rotations = unit.rotations.clone()
    origins[0, 1] = rotation @ origins[0, 1] + torch.tensor(group.translations[1])
    rotations[0, 1] = cart @ rotations[0, 1] @ body
    other = unit.replace(frac_origins=origins, rotations=rotations)
    assert float(crystal_energy(other, calculator)) == pytest.approx(float(crystal_energy(unit, calculator)), rel=1e-10)


def test_a_batch_counts_one_evaluation_for_each_crystal():
    unit = AsymmetricUnit.cat([crystals.p21c(), crystals.p21c()])
    counter = EvaluationCounter()
    found = energy_and_gradient(unit, crystals.lennard_jones(), counter=counter)
    assert counter.evaluations == 2
    assert found.energy.shape == (2,)
    assert found.energy[0] == pytest.approx(float(found.energy[1]))


def test_fixed_cell_asks_for_no_stress():
    class NoStress(Calculator):
        implemented_properties = ("energy", "forces")

        def calculate(self, atoms=None, properties=None, system_changes=()):
            super().calculate(atoms, properties, system_changes)
            self.results = {"energy": 1.0, "forces": np.zeros((len(self.atoms), 3))}

    unit = crystals.p21c()
    assert float(energy_and_gradient(unit, NoStress(), stress=False).energy) == 1.0
    with pytest.raises(InputError, match="gives no stress"):
        energy_and_gradient(unit, NoStress())


def test_nan_energy_is_an_error():
    class Nan(Calculator):
        implemented_properties = ("energy", "forces", "stress")

        def calculate(self, atoms=None, properties=None, system_changes=()):
            super().calculate(atoms, properties, system_changes)
            self.results = {"energy": float("nan"), "forces": np.zeros((len(self.atoms), 3)), "stress": np.zeros(6)}

    with pytest.raises(ComputationError, match="nan"):
        energy_and_gradient(crystals.p21c(), Nan())


@pytest.mark.parametrize("make", MAKERS, ids=lambda make: make.__name__)
def test_every_free_coordinate_keeps_the_space_group(make):
    coordinates = SymmetryCoordinates.of(make(), free_cell=True)
    generator = torch.Generator().manual_seed(1)
    x = 0.1 * torch.rand(coordinates.size, generator=generator, dtype=torch.float64)
    moved = coordinates.asymmetric_unit(x)
    projected = expand(moved)[0]
    raw = expand_tensors(moved, project_sites=False).structures()[0]
    gaps = projected.frac_coords - raw.frac_coords
    assert np.abs(gaps - np.round(gaps)).max() < 1e-9
    assert np.allclose(projected.lattice.parameters, raw.lattice.parameters, atol=1e-9)


@pytest.mark.parametrize(
    ("make", "sizes"),
    [
        (crystals.alpha, (2, 1, 3)),
        (crystals.p21212, (2, 1, 3)),
        (crystals.p21c, (6, 3, 4)),
        (crystals.pnma, (4, 1, 3)),
        (crystals.dry_ice, (0, 0, 1)),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_number_of_free_coordinates(make, sizes):
    coordinates = SymmetryCoordinates.of(make(), free_cell=True)
    bases = (coordinates.origin_basis, coordinates.turn_basis, coordinates.strain_basis)
    assert tuple(len(basis) for basis in bases) == sizes


def test_one_crystal_at_a_time():
    with pytest.raises(InputError, match="batch of 2"):
        SymmetryCoordinates.of(AsymmetricUnit.cat([crystals.p21c(), crystals.p21c()]))

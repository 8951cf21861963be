"""The frozen batch: shapes, slices, JSON; and energies that do not care which asymmetric unit was taken."""

import json

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nanh2lib.crystal.asymmetric_unit import AsymmetricUnit, Site, Template
from nanh2lib.crystal.expansion import expand
from nanh2lib.crystal.extraction import extract_asymmetric_unit
from nanh2lib.crystal.rigid_unit import NA, NH2
from nanh2lib.errors import InputError
from nanh2lib.geometry.lattice import lattice_parameters_to_matrix


@pytest.fixture
def batch():
    template = Template(335, (Site(NA, "f"), Site(NH2, "g")))
    generator = torch.Generator().manual_seed(0)
    return AsymmetricUnit(
        template,
        torch.tensor([[8.964, 10.456, 8.073, 90, 90, 90]], dtype=torch.float64).repeat(4, 1),
        torch.rand(4, 2, 3, generator=generator, dtype=torch.float64),
        torch.eye(3, dtype=torch.float64).expand(4, 2, 3, 3).clone(),
    )


def test_slices_and_copies(batch):
    assert len(batch) == batch.batch_size == 4
    assert batch[-1].batch_size == 1
    assert torch.equal(batch[-1].frac_origins[0], batch.frac_origins[3])
    assert batch[1:3].batch_size == 2
    assert batch[torch.tensor([True, False, True, False])].batch_size == 2
    assert batch.to(torch.float32).dtype is torch.float32
    assert batch.units == (NA, NH2)
    assert batch.wyckoff_letters == ("f", "g")
    assert batch.multiplicities == (16, 16)


def test_json_keeps_every_bit(batch):
    back = AsymmetricUnit.from_dict(json.loads(json.dumps(batch.to_dict())))
    assert back.template == batch.template
    for name in ("lattice_parameters", "frac_origins", "rotations"):
        assert torch.equal(getattr(back, name), getattr(batch, name))


def test_shapes_and_types_are_checked(batch):
    with pytest.raises(InputError, match=r"frac_origins: expected shape \(4, 2, 3\), got \(4, 1, 3\)"):
        batch.replace(frac_origins=batch.frac_origins[:, :1])
    with pytest.raises(InputError, match=r"dtype torch\.float32"):
        batch.replace(rotations=batch.rotations.float())
    with pytest.raises(InputError, match="same template"):
        AsymmetricUnit.cat([])


@pytest.mark.parametrize("key", ["S1-P21212", "S1-P21c"])
def test_energy_does_not_depend_on_the_choice_of_asymmetric_unit(key, crystals):
    """CHGNet's energy of the crystal through both anchors, from a moved origin and from a symmetry image."""
    from pymatgen.io.ase import AseAtomsAdaptor

    from nanh2lib.energy.potentials import get_calculator

    calculator = get_calculator("chgnet")

    def energy(unit):
        atoms = AseAtomsAdaptor.get_atoms(expand(unit)[0])
        atoms.calc = calculator
        return atoms.get_potential_energy()

    structure = crystals[key]
    unit = extract_asymmetric_unit(structure)
    expected = energy(unit)
    assert energy(extract_asymmetric_unit(structure, anchor="site_index")) == pytest.approx(expected, abs=1e-4)
    assert energy(extract_asymmetric_unit(structure, canonical_origin=True)) == pytest.approx(expected, abs=1e-4)
    group = unit.template.space_group
    lattice = structure.lattice
    image = structure.copy()
    coords = image.frac_coords @ group.rotations[1].T + np.array([0.3, 0.1, 0.7])
    moved = type(image)(lattice, image.species, coords)
    assert energy(extract_asymmetric_unit(moved)) == pytest.approx(expected, abs=1e-4)


@settings(deadline=None, max_examples=8, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    picks=st.lists(st.integers(0, 3), min_size=2, max_size=2),
    cells=st.lists(st.integers(-2, 2), min_size=6, max_size=6),
)
def test_energy_from_any_image_of_each_unit(picks, cells, crystals):
    """Na and NH2 of P2_1/c each replaced by an image under one of the four operations, in any cell."""
    from nanh2lib.energy.labels import energy_per_formula_unit

    unit = extract_asymmetric_unit(crystals["S1-P21c"])
    group = unit.template.space_group
    lattice = lattice_parameters_to_matrix(unit.lattice_parameters)[0]
    origins, rotations = unit.frac_origins.clone(), unit.rotations.clone()
    for i, (pick, kind) in enumerate(zip(picks, unit.units, strict=True)):
        operation = torch.tensor(group.rotations[pick], dtype=torch.float64)
        shift = torch.tensor(group.translations[pick]) + torch.tensor(cells[3 * i : 3 * i + 3])
        origins[0, i] = operation @ origins[0, i] + shift
        if not kind.is_monatomic:
            turn = lattice.T @ operation @ torch.linalg.inv(lattice.T) @ rotations[0, i]
            # Under an improper operation NH2 maps onto itself by a rotation composed with its own mirror.
            rotations[0, i] = (
                turn if torch.linalg.det(turn) > 0 else turn @ torch.diag(torch.tensor([1.0, 1.0, -1.0]).double())
            )
    (image,) = expand(unit.replace(frac_origins=origins, rotations=rotations))
    (structure,) = expand(unit)
    assert energy_per_formula_unit(image, "chgnet") == pytest.approx(
        energy_per_formula_unit(structure, "chgnet"), abs=1e-5
    )

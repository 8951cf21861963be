"""The frozen batch: shapes, slices, JSON; and energies that do not care which asymmetric unit was taken."""

import json

import numpy as np
import pytest
import torch

from nanh2lib.crystal.asymmetric_unit import AsymmetricUnit, Site, Template
from nanh2lib.crystal.expansion import expand
from nanh2lib.crystal.extraction import extract_asymmetric_unit
from nanh2lib.crystal.rigid_unit import NA, NH2
from nanh2lib.errors import InputError


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
    """CHGNet's energy of the crystal from every image of each unit, and through both anchors."""
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

"""The forward process: it respects sites and cells, and its targets are scores."""

import math

import pytest
import torch

from nanh2lib.crystal.asymmetric_unit import AsymmetricUnit, Site, Template
from nanh2lib.crystal.expansion import project
from nanh2lib.crystal.rigid_unit import RigidUnit
from nanh2lib.crystal.space_group import SpaceGroup
from nanh2lib.diffusion.geometric import so3, strain
from nanh2lib.diffusion.geometric.flat_units import FlatUnits, batches_of
from nanh2lib.diffusion.geometric.model import remove_drift
from nanh2lib.diffusion.geometric.noising import CellStatistics, NoiseSettings, add_noise, turn_axes
from nanh2lib.errors import InputError
from nanh2lib.geometry.lattice import lattice_parameters_to_matrix
from nanh2lib.geometry.rotations import random_rotations, rotation_angle

SETTINGS = NoiseSettings(levels=40)
NAMES = ["P2_1/c", "P2_1", "P21212", "Fddd"]


def noised(parts, level, settings=SETTINGS, seed=0):
    flat = FlatUnits.of(parts)
    levels = torch.full((flat.n_crystals,), level)
    cells = CellStatistics.of(parts)
    return add_noise(flat, flat.site_data(), levels, settings, cells, torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("level", [0, 20, 39])
def test_noised_crystals_stay_on_their_sites(crystals, name, level):
    (units,) = batches_of(noised([crystals[name]], level).flat)
    exact = project(units)
    assert torch.allclose(exact.frac_origins, units.frac_origins, atol=1e-9)
    assert float(rotation_angle(exact.rotations, units.rotations).max()) < 1e-5
    assert float((units.frac_origins - crystals[name].frac_origins).abs().max()) > 1e-4


def test_freedom_of_turns(crystals):
    """NH2 on a two-fold axis turns about that axis alone; sodium never turns."""
    assert FlatUnits.of([crystals["P2_1"][0]]).site_data().turn_freedom.tolist() == [0, 0, 3, 3]
    flat = FlatUnits.of([crystals["P21212"][0]])
    assert flat.site_data().turn_freedom.tolist() == [0, 1]
    _, axis = turn_axes(flat, flat.site_data())
    assert torch.allclose(axis[1].abs(), torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64))


def test_rods_turn_where_their_axis_may_point():
    rod = RigidUnit("CO2", ("C", "O", "O"), ((0.0, 0.0, 0.0), (1.16, 0.0, 0.0), (-1.16, 0.0, 0.0)))
    group = SpaceGroup.from_number(12)  # C2/m: on the mirror a rod lies in it or stands on it
    letter = next(s.letter for s in group.wyckoff_sites if s.site_symmetry == "m" and s.multiplicity == 4)
    freedom = []
    for mode in (0, 1):
        template = Template(group.hall_number, (Site(rod, letter, mode),))
        units = AsymmetricUnit(
            template,
            torch.tensor([[9.0, 6.0, 7.0, 90.0, 104.0, 90.0]], dtype=torch.float64),
            torch.tensor([[[0.2, 0.0, 0.3]]], dtype=torch.float64),
            random_rotations(1, torch.Generator().manual_seed(2))[None],
        )
        units = project(units)
        flat = FlatUnits.of([units])
        freedom.append(int(flat.site_data().turn_freedom[0]))
        moved = noised([units], 30)
        after = batches_of(moved.flat)[0]
        exact = project(after).rotations[0, 0][:, 0]
        assert torch.allclose(exact, after.rotations[0, 0][:, 0], atol=1e-9)
        assert float((moved.turn[0] @ after.rotations[0, 0][:, 0]).abs()) < 1e-9  # spin is no motion
    assert sorted(freedom) == [0, 1]


@pytest.mark.parametrize("level", [0, 10, 25])
def test_small_noise_targets_are_minus_the_noise(crystals, level):
    """Far below the size of the cell and of a turn, sigma times the score is -eps."""
    units = crystals["P2_1/c"]
    result = noised([units], level)
    flat = FlatUnits.of([units])
    sigma = float(SETTINGS.sigmas("position")[level])
    shift = ((result.flat.frac_origins - flat.frac_origins)[:, None] @ flat.unit_lattice())[:, 0]
    assert torch.allclose(result.position, -shift / sigma, atol=1e-3)


def test_targets_have_unit_variance_at_small_noise(crystals):
    parts = [AsymmetricUnit.cat([crystals["P2_1/c"]] * 40)]
    result = noised(parts, 5)
    molecules = FlatUnits.of(parts).site_data().turn_freedom == 3
    assert float(result.position.std()) == pytest.approx(1.0, rel=0.05)
    assert float(result.turn[molecules].std()) == pytest.approx(1.0, rel=0.05)
    wide = noised(parts, 39)
    assert float(wide.position.std()) < 0.1  # nothing is left to know
    assert float(wide.turn[molecules].std()) < 0.35


def test_bound_turns_follow_the_circle(crystals):
    """On an axis NH2 looks alike after half a turn: period pi."""
    parts = [AsymmetricUnit.cat([crystals["P21212"]] * 60)]
    level = 34
    sigma = float(SETTINGS.sigmas("turn")[level])
    result = noised(parts, level)
    flat = FlatUnits.of(parts)
    molecules = flat.site_data().turn_freedom == 1
    change = result.flat.rotations[molecules] @ flat.rotations[molecules].transpose(-1, -2)
    angle = torch.atan2(change[:, 1, 0], change[:, 0, 0])
    full = torch.full_like(angle, math.pi)
    expected = sigma * so3.circle_score(angle, full, torch.full_like(angle, sigma))
    assert torch.allclose(result.turn[molecules][:, 2].abs(), expected.abs(), atol=1e-6)


def test_ablations_change_targets_only_where_they_should(crystals):
    parts = [crystals["P2_1/c"]]
    full = noised(parts, 39)
    euclidean = noised(parts, 39, NoiseSettings(levels=40, positions="euclidean"))
    assert torch.equal(euclidean.flat.frac_origins, full.flat.frac_origins)
    assert float(euclidean.position.std()) == pytest.approx(1.0, abs=0.25)
    plain = noised(parts, 39, NoiseSettings(levels=40, orientations="so3"))
    assert torch.equal(plain.flat.rotations, full.flat.rotations)
    assert float((plain.turn - full.turn).abs().max()) > 0.05
    tangent = noised(parts, 0, NoiseSettings(levels=40, orientations="tangent"))
    assert float((tangent.turn - noised(parts, 0).turn).norm()) < float(tangent.turn.norm()) * 2
    for key, value in (("position_sigma", (2.0, 1.0)), ("turn_sigma", (0.1, 5.0))):
        with pytest.raises(InputError, match=key):
            NoiseSettings.from_mapping({key: value})


def test_drift_along_polar_axes_is_removed(crystals):
    flat = FlatUnits.of([crystals["P2_1"], crystals["P2_1/c"]])
    vectors = torch.randn(flat.n_units, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    still = remove_drift(vectors, flat)
    polar = flat.crystal < 3
    assert float(still[polar][:, 1].reshape(3, -1).mean(1).abs().max()) < 1e-12
    assert torch.equal(still[polar][:, [0, 2]], vectors[polar][:, [0, 2]])
    assert torch.equal(still[~polar], vectors[~polar])
    assert torch.allclose(remove_drift(still, flat), still, atol=1e-12)


@pytest.mark.parametrize(("number", "free"), [(1, 6), (14, 4), (70, 3), (88, 2), (164, 2), (227, 1)])
def test_strain_keeps_the_crystal_family(number, free):
    group = SpaceGroup.from_number(number)
    generator = torch.Generator().manual_seed(0)
    rough = torch.tensor([7.0, 8.0, 9.0, 80.0, 95.0, 105.0], dtype=torch.float64)
    reference = lattice_parameters_to_matrix(group.symmetrize_lattice(rough))
    template = Template(group.hall_number, (Site(RigidUnit("Na", ("Na",)), group.wyckoff_sites[-1].letter),))
    assert strain.strain_freedom(template, reference) == free
    noise = strain.family_projection(strain.symmetric_noise((5,), generator), template, reference)
    assert torch.allclose(strain.family_projection(noise, template, reference), noise, atol=1e-9)
    lattice = strain.strain_to_lattice(0.1 * noise, reference)
    from nanh2lib.geometry.lattice import matrix_to_lattice_parameters

    parameters = matrix_to_lattice_parameters(lattice)
    assert torch.allclose(group.symmetrize_lattice(parameters), parameters, atol=1e-6)
    assert torch.allclose(torch.logdet(lattice), torch.logdet(reference) + 0.1 * noise.diagonal(dim1=1, dim2=2).sum(1))
    back, turn = strain.lattice_to_strain(lattice_parameters_to_matrix(parameters), reference)
    assert torch.allclose(back, 0.1 * noise, atol=1e-9)
    standard = lattice_parameters_to_matrix(parameters)
    assert torch.allclose(standard @ turn.transpose(-1, -2), lattice, atol=1e-9)


def test_free_cell_noise_is_undone_by_its_own_score(crystals):
    units = crystals["P2_1/c"]
    cells = torch.tensor([[8.9, 10.4, 8.0, 90, 91, 90], [9.1, 10.2, 8.2, 90, 95, 90], [8.7, 10.9, 8.1, 90, 88, 90]])
    units = units.replace(lattice_parameters=cells.double())
    settings = NoiseSettings(levels=40, lattice="strain")
    statistics = CellStatistics.of([units])
    result = noised([units], 20, settings)
    sigma = float(settings.sigmas("strain")[20])
    clean = result.strain_state + sigma * result.strain  # Tweedie with the true score
    lattice = strain.strain_to_lattice(statistics.scale * clean, statistics.references[units.template])
    assert torch.allclose(torch.linalg.det(lattice), torch.linalg.det(lattice_parameters_to_matrix(cells.double())))
    again = CellStatistics.from_dict(statistics.to_dict())
    assert again.scale == statistics.scale
    assert torch.equal(again.references[units.template], statistics.references[units.template])


def test_crystals_survive_being_flattened(crystals):
    parts = list(crystals.values())
    for before, after in zip(parts, batches_of(FlatUnits.of(parts)), strict=True):
        assert after.template == before.template
        assert torch.allclose(after.frac_origins, before.frac_origins)
        assert torch.allclose(after.rotations, before.rotations, atol=1e-7)
        assert torch.allclose(after.lattice_parameters, before.lattice_parameters, atol=1e-6)

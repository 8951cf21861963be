"""What the graph network must not see, and how its answers must turn."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from nanh2lib.crystal.asymmetric_unit import AsymmetricUnit, Site, Template
from nanh2lib.crystal.rigid_unit import NA, NH2, RigidUnit
from nanh2lib.crystal.space_group import SpaceGroup
from nanh2lib.diffusion.geometric.flat_units import FlatUnits
from nanh2lib.diffusion.geometric.graph import UnitKinds, find_edges, unit_images
from nanh2lib.diffusion.geometric.network import Conditions, CrystalNetwork, NetworkSettings
from nanh2lib.diffusion.geometric.noising import cartesian, turn_axes
from nanh2lib.diffusion.geometric.strain import family_projection
from nanh2lib.geometry.lattice import lattice_parameters_to_matrix
from nanh2lib.geometry.rotations import random_rotations, rotation_vector_to_matrix

KINDS = UnitKinds((NA, NH2))
SETTINGS = NetworkSettings(features=16, channels=4, layers=2, radial=8, cutoff=4.5)
NAMES = ["P2_1/c", "P2_1", "P21212", "Fddd"]


def make(head, dtype=torch.float64, seed=0):
    generator = torch.Generator().manual_seed(seed)
    network = CrystalNetwork(KINDS, 2, SETTINGS, head=head, noised=True, generator=generator).to(dtype)
    with torch.no_grad():  # the heads start at zero: give them something to say
        for parameter in network.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator, dtype=dtype))
    return network


@pytest.fixture(scope="module")
def score_network():
    return make("score")


@pytest.fixture(scope="module")
def energy_network():
    return make("energy")


def conditions(flat):
    count = flat.n_crystals
    return Conditions(
        torch.zeros(count, dtype=flat.lattice.dtype), torch.ones(count, dtype=torch.int64), flat.site_data()
    )


def scores(network, units, turn=None):
    flat = FlatUnits.of([units])
    if turn is not None:
        flat = flat.replace(lattice=flat.lattice @ turn.T, rotations=turn @ flat.rotations)
    with torch.no_grad():
        result = network.scores(flat, network.geometry(flat), conditions(flat))
    count = units.batch_size
    if turn is None:  # what the crystal family allows: the sum over the asymmetric unit alone is not symmetric
        result = replace(result, strain=family_projection(result.strain, units.template, flat.lattice[0]))
    return result.position.reshape(count, -1, 3), result.turn.reshape(count, -1, 3), result.strain


def energies(network, units):
    flat = FlatUnits.of([units])
    return network.energies(flat, network.geometry(flat), conditions(flat))


def close(first, second, tolerance=1e-7):
    return all(torch.allclose(a, b, atol=tolerance) for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize("name", NAMES)
def test_answers_are_neither_zero_nor_constant(score_network, crystals, name):
    position, turn, strain = scores(score_network, crystals[name])
    assert float(strain.abs().min()) >= 0
    for answer in (position, turn[:, crystals[name].template.n_units // 2 :], strain):
        assert float(answer.abs().max()) > 1e-2
        assert float((answer[0] - answer[1]).abs().max()) > 1e-5


@pytest.mark.parametrize("name", NAMES)
def test_lattice_translations_of_single_units_do_not_matter(score_network, crystals, name):
    units = crystals[name]
    shift = torch.randint(-2, 3, units.frac_origins.shape, generator=torch.Generator().manual_seed(1))
    projection = units.template.layout.origin_projection
    inside = torch.einsum("uij,buj->bui", projection, shift.double())
    moved = units.replace(frac_origins=units.frac_origins + torch.where(inside == shift, shift.double(), 0 * inside))
    assert close(scores(score_network, moved), scores(score_network, units))


@pytest.mark.parametrize("name", NAMES)
def test_origin_shifts_of_the_normalizer_do_not_matter(score_network, energy_network, crystals, name):
    """General positions only: on special ones a shift may lead to another site of the same kind."""
    units = crystals[name]
    group = SpaceGroup.from_hall(units.hall_number)
    shifts = group.free_origin_shifts()
    vectors = [torch.as_tensor(v) for v in shifts.shifts[:4]]
    vectors += [0.37 * torch.as_tensor(v) for v in shifts.directions]
    reference = scores(score_network, units)
    for vector in vectors:
        moved = units.replace(frac_origins=units.frac_origins + vector)
        assert close(scores(score_network, moved), reference, 1e-6)
        assert torch.allclose(energies(energy_network, moved), energies(energy_network, units), atol=1e-7)


@pytest.mark.parametrize("name", ["P2_1/c", "P2_1"])
def test_order_of_units_does_not_matter(score_network, crystals, name):
    units = crystals[name]
    half = units.template.n_units // 2
    order = torch.cat([torch.randperm(half), half + torch.randperm(half)])
    shuffled = units.replace(frac_origins=units.frac_origins[:, order], rotations=units.rotations[:, order])
    position, turn, strain = scores(score_network, units)
    assert close(scores(score_network, shuffled), (position[:, order], turn[:, order], strain))


def image_of(units, operation):
    """Each unit replaced by its image under a space-group operation (NH2 is achiral)."""
    group = units.template.space_group
    rotation = torch.tensor(group.rotations[operation], dtype=torch.float64)
    lattice = lattice_parameters_to_matrix(units.lattice_parameters)[0]
    cart = lattice.T @ rotation @ torch.linalg.inv(lattice).T
    mirror = torch.diag(torch.tensor([1.0, 1.0, -1.0], dtype=torch.float64))  # NH2's own plane
    proper = float(torch.linalg.det(cart)) > 0
    rotations = cart @ units.rotations @ (torch.eye(3, dtype=torch.float64) if proper else mirror)
    single = torch.tensor([site.unit.is_monatomic for site in units.template.sites])
    rotations = torch.where(single[None, :, None, None], torch.eye(3, dtype=torch.float64), rotations)
    origins = units.frac_origins @ rotation.T + torch.tensor(group.translations[operation])
    return units.replace(frac_origins=origins, rotations=rotations), cart


@pytest.mark.parametrize("name", ["P2_1/c", "P2_1"])
@pytest.mark.parametrize("operation", [1, -1])
def test_symmetry_images_get_the_turned_answer(score_network, energy_network, crystals, name, operation):
    """One unit alone is replaced by its image: the crystal is the same, its own score turns along."""
    units = crystals[name]
    images, cart = image_of(units, operation)
    last = units.template.n_units - 1
    origins, rotations = units.frac_origins.clone(), units.rotations.clone()
    origins[:, last], rotations[:, last] = images.frac_origins[:, last], images.rotations[:, last]
    moved = units.replace(frac_origins=origins, rotations=rotations)
    position, turn, strain = (t.clone() for t in scores(score_network, units))
    position[:, last] = position[:, last] @ cart.T
    turn[:, last] = torch.linalg.det(cart) * turn[:, last] @ cart.T  # axial
    assert close(scores(score_network, moved), (position, turn, strain))
    assert torch.allclose(energies(energy_network, moved), energies(energy_network, units), atol=1e-8)


@pytest.mark.parametrize("name", NAMES)
def test_turning_the_crystal_turns_the_answer(score_network, crystals, name):
    turn = random_rotations(1, torch.Generator().manual_seed(5))[0]
    position, axial, strain = scores(score_network, crystals[name], torch.eye(3, dtype=torch.float64))
    expected = (position @ turn.T, axial @ turn.T, turn @ strain @ turn.T)
    assert close(scores(score_network, crystals[name], turn), expected)


@pytest.mark.parametrize("name", NAMES)
def test_units_own_symmetry_does_not_matter(score_network, crystals, name):
    units = crystals[name]
    half_turn = torch.diag(torch.tensor([1.0, -1.0, -1.0], dtype=torch.float64))  # NH2's two-fold axis
    assert close(
        scores(score_network, units.replace(rotations=units.rotations @ half_turn)), scores(score_network, units)
    )


@pytest.mark.parametrize("name", NAMES)
def test_special_sites_get_answers_that_they_allow(score_network, crystals, name):
    units = crystals[name]
    flat = FlatUnits.of([units])
    position, turn, _ = scores(score_network, units)
    projection = cartesian(flat.site_data().origin_projection, flat)
    turns, _ = turn_axes(flat, flat.site_data())
    allowed = (projection @ position.reshape(-1, 3, 1))[..., 0]
    assert torch.allclose(allowed, position.reshape(-1, 3), atol=1e-7)
    molecules = torch.tensor([not site.unit.is_monatomic for site in units.template.sites]).repeat(units.batch_size)
    allowed = (turns @ turn.reshape(-1, 3, 1))[..., 0]
    assert torch.allclose(allowed[molecules], turn.reshape(-1, 3)[molecules], atol=1e-7)


@pytest.mark.parametrize("name", ["P2_1", "Fddd"])
def test_energy_gradient_against_finite_differences(energy_network, crystals, name):
    units = crystals[name][0:1]
    flat = FlatUnits.of([units])
    shift = torch.zeros(flat.n_units, 3, dtype=torch.float64, requires_grad=True)
    turn = torch.zeros(flat.n_units, 3, dtype=torch.float64, requires_grad=True)

    def energy(shift, turn):
        moved = flat.replace(
            frac_origins=flat.frac_origins + (shift[:, None] @ torch.linalg.inv(flat.unit_lattice()))[:, 0],
            rotations=rotation_vector_to_matrix(turn) @ flat.rotations,
        )
        return energy_network.energies(moved, energy_network.geometry(moved), conditions(moved)).sum()

    gradients = torch.autograd.grad(energy(shift, turn), (shift, turn))
    step = 1e-4
    for number, gradient in enumerate(gradients):
        if not gradient.any():
            continue
        probe = torch.zeros_like(shift)
        probe[-1] = torch.tensor([0.3, -0.5, 0.8])
        zero = torch.zeros_like(shift)
        ends = [(s * step * probe, zero) if number == 0 else (zero, s * step * probe) for s in (1, -1)]
        difference = (energy(*ends[0]) - energy(*ends[1])) / (2 * step)
        assert float(difference.detach()) == pytest.approx(float((gradient * probe).sum()), rel=1e-4, abs=1e-7)


def test_neighbours_agree_with_pymatgen(crystals):
    from pymatgen.core import Structure

    for units in crystals.values():
        flat = FlatUnits.of([units[0:1]])
        edges = find_edges(flat, unit_images(flat), 5.0)
        origins, kinds, owners = [], [], []
        for number, (site, wyckoff) in enumerate(zip(units.template.sites, units.template.wyckoff_sites, strict=True)):
            point = units.frac_origins[0, number].numpy()
            images = wyckoff.coset_rotations @ point + wyckoff.coset_translations
            owners += [number] * len(images)
            origins += list(images)
            kinds += ["Na" if site.unit is NA else "N"] * len(images)
        structure = Structure(flat.lattice[0].numpy(), kinds, origins)
        firsts = [owners.index(number) for number in range(units.template.n_units)]
        expected = [len(structure.get_neighbors(structure[i], 5.0)) for i in firsts]
        assert torch.bincount(edges.target, minlength=len(firsts)).tolist() == expected


def test_small_cells_meet_their_own_images():
    template = Template(1, (Site(NA, "a"),))
    cell = torch.tensor([[2.5, 3.0, 3.5, 80.0, 95.0, 101.0]], dtype=torch.float64)
    units = AsymmetricUnit(template, cell, torch.zeros(1, 1, 3).double(), torch.eye(3).double()[None, None])
    lattice = lattice_parameters_to_matrix(cell)[0].numpy()
    grid = np.array(np.meshgrid(*[range(-4, 5)] * 3)).reshape(3, -1).T
    lengths = np.linalg.norm(grid @ lattice, axis=1)
    flat = FlatUnits.of([units])
    assert len(find_edges(flat, unit_images(flat), 6.0).target) == int(((lengths < 6.0) & (lengths > 0)).sum())


def test_single_precision_agrees(crystals):
    units = crystals["P2_1/c"]
    double, single = make("score"), make("score").to(torch.float32)
    flat = FlatUnits.of([units]).to(torch.float32)
    with torch.no_grad():
        answer = single.scores(flat, single.geometry(flat), conditions(flat))
    expected = scores(double, units)
    assert torch.allclose(answer.position.reshape(3, -1, 3).double(), expected[0], atol=1e-3)


def test_atoms_of_one_orbit_share_a_class():
    water = RigidUnit("CO2", ("C", "O", "O"), ((0.0, 0.0, 0.0), (1.16, 0.0, 0.0), (-1.16, 0.0, 0.0)))
    assert UnitKinds((water,)).classes(0).tolist() == [0, 1, 1]
    assert KINDS.classes(1).tolist() == [0, 1, 1]


def test_batches_do_not_mix(score_network, crystals):
    """Crystals of several templates together get the answers that they get alone."""
    parts = list(crystals.values())
    flat = FlatUnits.of(parts)
    with torch.no_grad():
        together = score_network.scores(flat, score_network.geometry(flat), conditions(flat))
    alone = torch.cat([scores(score_network, part)[0].reshape(-1, 3) for part in parts])
    assert torch.allclose(together.position, alone, atol=1e-9)
    picked = flat.select(torch.tensor([7, 0]))
    with torch.no_grad():
        again = score_network.scores(picked, score_network.geometry(picked), conditions(picked))
    rows = torch.cat([(flat.crystal == c).nonzero().squeeze(-1) for c in (7, 0)])
    assert torch.allclose(again.position, together.position[rows], atol=1e-9)

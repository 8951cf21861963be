import numpy as np
import pytest
import torch
from scipy import stats

from nanh2lib.crystal.asymmetric_unit import Site, Template
from nanh2lib.crystal.expansion import project
from nanh2lib.crystal.orientation import orientation_modes
from nanh2lib.crystal.rigid_unit import NA, NH2, SODIUM_AMIDE
from nanh2lib.crystal.space_group import SpaceGroup
from nanh2lib.errors import ComputationError, InputError
from nanh2lib.geometry.lattice import lattice_parameters_to_matrix
from nanh2lib.search.lattice_prior import LatticePrior
from nanh2lib.search.placement import random_placement
from tests.search.support import ALPHA, random_units, seeded


@pytest.mark.parametrize(
    ("hall_number", "rank"), [(1, 0), (9, 40), (18, 7), (57, 10**6), (213, 3), (335, 12), (227, 10**9)]
)
def test_placed_units_are_exactly_on_their_sites(hall_number, rank):
    for unit in random_units(hall_number, [rank, rank + 1, rank + 2]):
        projected = project(unit)
        assert (projected.frac_origins - unit.frac_origins).abs().max() < 1e-12
        assert (projected.rotations - unit.rotations).abs().max() < 1e-9
        identity = torch.eye(3, dtype=torch.float64)
        assert (unit.rotations @ unit.rotations.transpose(-1, -2) - identity).abs().max() < 1e-12


def test_nh2_on_a_two_fold_axis_is_turned_into_itself():
    template = Template(213, (Site(NA, "a"), Site(NA, "a"), Site(NH2, "a"), Site(NH2, "a")))
    cell = torch.tensor([ALPHA], dtype=torch.float64)
    (unit,) = random_placement([template], cell, [seeded(1)])
    site = SpaceGroup.from_hall(213).site("a")
    (operations,) = orientation_modes(NH2, 213, "a")
    lattice = lattice_parameters_to_matrix(unit.lattice_parameters)[0]
    for rotation in unit.rotations[0, 2:]:
        for s, b in zip(site.stabilizer_rotations, operations, strict=True):
            cart = lattice.T @ torch.as_tensor(s, dtype=torch.float64) @ torch.linalg.inv(lattice.T)
            assert (cart @ rotation - rotation @ torch.as_tensor(b.copy())).abs().max() < 1e-9
        assert abs(abs(float(rotation[0, 0])) - 1) < 1e-9  # the two-fold axis of F2dd lies along a


@pytest.mark.parametrize(("hall_number", "letter"), [(213, "a"), (489, "e")])  # x, 0, 0 and x, x, x
def test_origins_are_uniform_along_a_line(hall_number, letter):
    group = SpaceGroup.from_hall(hall_number)
    template = Template(hall_number, (Site(NA, letter),) * 400)
    cell = group.symmetrize_lattice(torch.tensor([[9.0, 9.5, 10.0, 90, 90, 90.0]], dtype=torch.float64))
    (unit,) = random_placement([template], cell, [seeded(2)])
    assert stats.kstest(unit.frac_origins[0, :, 0].numpy() % 1.0, "uniform").pvalue > 1e-3


def test_general_orientations_are_uniform():
    template = Template(1, (Site(NH2, "a"),) * 3000)
    (unit,) = random_placement([template], torch.tensor([ALPHA], dtype=torch.float64), [seeded(3)])
    # Each column of a uniform rotation is uniform on the sphere: its components are uniform in [-1, 1].
    for i in range(3):
        for j in range(3):
            assert stats.kstest(unit.rotations[0, :, i, j].numpy(), "uniform", args=(-1, 2)).pvalue > 1e-3


def test_orientations_on_an_axis_are_uniform_about_it():
    template = Template(213, (Site(NH2, "a"),) * 800)
    (unit,) = random_placement([template], torch.tensor([ALPHA], dtype=torch.float64), [seeded(4)])
    rotation = unit.rotations[0]
    assert abs(float((rotation[:, 0, 0] > 0).double().mean()) - 0.5) < 0.05
    angle = torch.atan2(rotation[:, 2, 1], rotation[:, 1, 1]) / (2 * np.pi) + 0.5
    assert stats.kstest(angle.numpy(), "uniform").pvalue > 1e-3


def test_a_draw_depends_on_its_own_generator_only():
    alone = random_units(81, [0])
    with_others = random_units(81, [0, 3, 7])
    assert torch.equal(alone[0].frac_origins, with_others[0].frac_origins)
    assert torch.allclose(alone[0].rotations, with_others[0].rotations, atol=1e-14)


def test_volume_prior_gives_the_volume_and_the_metric_symmetry():
    prior = LatticePrior(kind="volume", volume_per_formula_unit=47.3, volume_tolerance=0.1, max_aspect=2.0)
    for hall_number in (1, 81, 115, 430, 523):
        group = SpaceGroup.from_hall(hall_number)
        assert prior.allows(hall_number)
        for seed in range(5):
            cell = prior.sample(hall_number, 4, seeded(seed))
            assert group.allows_lattice(cell)
            volume = float(torch.linalg.det(lattice_parameters_to_matrix(cell)))
            assert 0.9 * 4 * 47.3 - 1e-6 <= volume <= 1.1 * 4 * 47.3 + 1e-6
            assert cell[:3].max() / cell[:3].min() <= 2.0 + 1e-6


def test_ranges_hold_after_symmetrising_or_the_group_is_not_allowed():
    prior = LatticePrior(kind="ranges", lower=(4, 5, 6, 85, 85, 85), upper=(5, 6, 7, 95, 95, 95))
    assert prior.allows(81)
    assert not prior.allows(523)  # cubic: a = b = c has no place in disjoint ranges
    cell = prior.sample(81, 4, seeded(1))
    assert SpaceGroup.from_hall(81).allows_lattice(cell)
    assert all(low <= x <= high for low, x, high in zip(prior.lower, cell.tolist(), prior.upper, strict=True))
    with pytest.raises(ComputationError, match="lies inside the bounds"):
        prior.sample(523, 4, seeded(1))


def test_fixed_cell_that_a_group_does_not_allow_is_an_input_error():
    with pytest.raises(InputError, match="metric symmetry"):
        LatticePrior(parameters=(5, 6, 7, 90, 100, 90)).sample(115, 4, seeded(0))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"parameters": (1, 2, 3, 10, 10, 170)}, "not a cell"),
        ({"kind": "ranges"}, "needs lower and upper"),
        ({"kind": "ranges", "lower": (5,) * 6, "upper": (4,) * 6}, "above its upper bound"),
        ({"kind": "volume"}, "needs volume_per_formula_unit"),
        ({"kind": "volume", "volume_per_formula_unit": -1}, "greater than 0"),
        ({"kind": "fixd"}, "kind"),
    ],
)
def test_priors_that_make_no_sense_are_refused(data, message):
    with pytest.raises(InputError, match=message):
        LatticePrior.from_mapping(data)


def test_placement_of_the_compound_keeps_its_counts():
    (unit,) = random_units(2, [77])
    assert unit.template.formula_units(SODIUM_AMIDE) == 16

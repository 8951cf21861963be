import numpy as np
import pytest
import torch

from nanh2lib.crystal.asymmetric_unit import Site, Template
from nanh2lib.crystal.expansion import expand, project
from nanh2lib.crystal.pair_limits import REALISTIC_LIMITS, PairLimits
from nanh2lib.crystal.rigid_unit import NA, NH2, Compound, RigidUnit
from nanh2lib.geometry.lattice import lattice_parameters_to_matrix
from nanh2lib.geometry.rotations import rotation_vector_to_matrix
from nanh2lib.search.overlap import overlap_energy_and_gradient
from nanh2lib.search.packing import pack_templates
from nanh2lib.search.placement import random_placement
from nanh2lib.search.push_apart import PushApartSettings, push_apart
from tests.search.support import ALPHA, brute_force_overlap, random_units, seeded

UREA = RigidUnit.from_atoms(
    "urea",
    ["C", "O", "N", "N", "H", "H", "H", "H"],
    [
        [0, 0, 0], [1.26, 0, 0], [-0.69, 1.15, 0], [-0.69, -1.15, 0],
        [-0.2, 2.03, 0], [-0.2, -2.03, 0], [-1.69, 1.13, 0], [-1.69, -1.13, 0],
    ],
)  # fmt: skip
CO2 = RigidUnit("CO2", ("C", "O", "O"), ((0.0, 0.0, 0.0), (1.16, 0.0, 0.0), (-1.16, 0.0, 0.0)))

CASES = [
    (1, 0, 4, (6.0, 7.0, 5.0, 80.0, 95.0, 103.0)),
    (2, 3, 4, (6.0, 7.0, 5.0, 80.0, 95.0, 103.0)),
    (81, 1, 4, (7.121, 6.337, 7.030, 90.0, 145.882, 90.0)),
    (9, 20, 16, ALPHA),
    (213, 3, 16, ALPHA),
    (335, 9, 16, ALPHA),
    (18, 30, 4, (5.0, 4.5, 6.5, 90.0, 97.0, 90.0)),
    (112, 4, 2, (3.711, 4.710, 5.306, 90.0, 90.0, 90.0)),
]


@pytest.mark.parametrize(("hall_number", "rank", "z", "cell"), CASES)
def test_energy_is_that_of_the_whole_crystal(hall_number, rank, z, cell):
    (unit,) = random_units(hall_number, [rank], z, cell)
    energy, _, _ = overlap_energy_and_gradient([unit], REALISTIC_LIMITS)
    expected = brute_force_overlap(unit, REALISTIC_LIMITS, reach=3)
    assert expected > 0.01
    assert torch.allclose(energy[0], expected, rtol=1e-9)


@pytest.mark.parametrize(("hall_number", "rank", "z", "cell"), CASES)
def test_gradient_is_that_of_finite_differences(hall_number, rank, z, cell):
    (unit,) = random_units(hall_number, [rank], z, cell)
    _, by_position, by_turn = overlap_energy_and_gradient([unit], REALISTIC_LIMITS)
    lattice = lattice_parameters_to_matrix(unit.lattice_parameters)[0]
    generator, step = seeded(hall_number), 1e-4

    def energy(unit):
        return float(brute_force_overlap(unit, REALISTIC_LIMITS, reach=1 if cell == ALPHA else 2))

    for number in range(0, unit.template.n_units, max(1, unit.template.n_units // 2)):
        # Displacements and turns that the site allows: a unit and its images must stay one orbit.
        projection = unit.template.layout.origin_projection[number]
        move = (projection @ torch.randn(3, generator=generator, dtype=torch.float64)) @ lattice
        packed = pack_templates([unit.template])
        turn = _allowed_turn(packed, lattice, number, torch.randn(3, generator=generator, dtype=torch.float64))
        for direction, gradient, apply in (
            (move, by_position[0, number], lambda u, s, n=number, m=move: _moved(u, n, s * m)),
            (turn, by_turn[0, number], lambda u, s, n=number, t=turn: _turned(u, n, s * t)),
        ):
            if float(direction.norm()) < 1e-6:
                continue
            numeric = (energy(apply(unit, step)) - energy(apply(unit, -step))) / (2 * step)
            assert numeric == pytest.approx(float(gradient @ direction), rel=1e-4, abs=1e-5)


def _allowed_turn(packed, lattice, number, vector):
    from nanh2lib.search.push_apart import _allowed_turns

    return _allowed_turns(packed, lattice[None])[0, number] @ vector


def _moved(unit, number, displacement):
    lattice = lattice_parameters_to_matrix(unit.lattice_parameters)[0]
    origins = unit.frac_origins.clone()
    origins[0, number] += displacement @ torch.linalg.inv(lattice)
    return unit.replace(frac_origins=origins)


def _turned(unit, number, vector):
    rotations = unit.rotations.clone()
    rotations[0, number] = rotation_vector_to_matrix(vector) @ rotations[0, number]
    return unit.replace(rotations=rotations)


def closest_by_pymatgen(structure, limits):
    """Smallest ratio of distance to limit between different units, by pymatgen's neighbour list."""
    units = structure.site_properties["unit_index"]
    centers, points, images, distances = structure.get_neighbor_list(3.5)
    smallest = np.inf
    lattice = structure.lattice.matrix
    first = {unit: index for index, unit in reversed(list(enumerate(units)))}
    for i, j, image, distance in zip(centers, points, images, distances, strict=True):
        if units[i] == units[j]:
            # Leave out the bonds of the molecule itself: both atoms nearest to the same reference image.
            reference = structure.frac_coords[first[units[i]]]
            cells = []
            for atom, shift in ((i, np.zeros(3)), (j, np.asarray(image))):
                gap = structure.frac_coords[atom] + shift - reference
                cells.append(np.round(gap))
            near = [
                np.linalg.norm((structure.frac_coords[a] + s - reference - c) @ lattice)
                for (a, s), c in zip(((i, np.zeros(3)), (j, np.asarray(image))), cells, strict=True)
            ]
            if np.array_equal(*cells) and max(near) < 1.5:
                continue
        limit = limits.limit(structure[int(i)].specie.symbol, structure[int(j)].specie.symbol)
        smallest = min(smallest, distance / limit)
    return smallest


@pytest.mark.parametrize("hall_number", [1, 2, 6, 9, 21, 72, 81, 115, 143, 213, 335])
def test_accepted_crystals_keep_the_limits_by_an_independent_measure(hall_number):
    units = random_units(hall_number, range(8))
    result = push_apart(units, REALISTIC_LIMITS)
    assert sum(result.converged) >= 4
    for unit, good in zip(result.units, result.converged, strict=True):
        (structure,) = expand(unit)
        ratio = closest_by_pymatgen(structure, REALISTIC_LIMITS)
        assert (ratio >= 1 - 1e-9) == good
        projected = project(unit)
        assert (projected.frac_origins - unit.frac_origins).abs().max() < 1e-12
        assert (projected.rotations - unit.rotations).abs().max() < 1e-9


def test_small_and_skewed_cells():
    cells = [(3.711, 4.710, 5.306, 90, 90, 90), (7.121, 6.337, 7.030, 90, 145.882, 90)]
    for hall_number, z, cell in ((112, 2, cells[0]), (81, 4, cells[1])):
        result = push_apart(random_units(hall_number, range(12), z, cell), REALISTIC_LIMITS)
        assert any(result.converged)
        for unit, good in zip(result.units, result.converged, strict=True):
            assert (closest_by_pymatgen(expand(unit)[0], REALISTIC_LIMITS) >= 1 - 1e-9) == good


def test_crystals_on_different_templates_move_as_they_do_alone():
    units = [*random_units(1, [0]), *random_units(9, [40]), *random_units(213, [3]), *random_units(81, [5])]
    energy, position, turn = overlap_energy_and_gradient(units, REALISTIC_LIMITS)
    for i, unit in enumerate(units):
        n = unit.template.n_units
        alone = overlap_energy_and_gradient([unit], REALISTIC_LIMITS)
        assert torch.allclose(alone[0], energy[i : i + 1])
        assert torch.allclose(alone[1][0], position[i, :n])
        assert torch.allclose(alone[2][0], turn[i, :n])
        assert not position[i, n:].any()


def test_a_batch_on_one_template_goes_in_and_comes_out():
    from nanh2lib.crystal.asymmetric_unit import AsymmetricUnit

    batch = AsymmetricUnit.cat(random_units(6, [0, 0, 0]))
    result = push_apart(batch, REALISTIC_LIMITS)
    assert result.asymmetric_unit.batch_size == 3
    assert all(result.converged)


def test_same_input_gives_the_same_bits_with_any_number_of_threads():
    units = random_units(2, range(6))
    before = torch.get_num_threads()
    results = []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            results.append(push_apart(units, REALISTIC_LIMITS))
    finally:
        torch.set_num_threads(before)
    for one, two in zip(results[0].units, results[1].units, strict=True):
        assert torch.equal(one.frac_origins, two.frac_origins)
        assert torch.equal(one.rotations, two.rotations)


def test_what_cannot_fit_is_given_up_soon_with_its_worst_pair():
    units = random_units(1, [0, 0], z=4, cell=(4.0, 4.0, 4.0, 90, 90, 90))
    result = push_apart(units, REALISTIC_LIMITS, PushApartSettings(max_steps=500))
    assert not any(result.converged)
    assert max(result.steps) <= 500
    assert all("push-apart did not reach the limits" in r and "limit" in r for r in result.reasons)


def test_points_do_not_move():
    template = Template(81, (*[Site(NA, letter) for letter in "abcd"], *[Site(NH2, "e")] * 2))
    cell = torch.tensor([(8.0, 9.0, 8.5, 90.0, 100.0, 90.0)], dtype=torch.float64)
    (unit,) = random_placement([template], cell, [seeded(5)])
    result = push_apart([unit], REALISTIC_LIMITS)
    assert result.converged == (True,)
    assert (result.units[0].frac_origins[0, :4] - unit.frac_origins[0, :4]).abs().max() < 1e-12
    assert (result.units[0].frac_origins[0, 4:] - unit.frac_origins[0, 4:]).abs().max() > 1e-3


@pytest.mark.parametrize(
    ("compound", "hall_number", "z", "cell"),
    [
        (Compound("CO2", (CO2,), (1,)), 290, 8, (5.6, 8.0, 8.5, 90, 90, 90)),
        (Compound("urea", (UREA,), (1,)), 81, 4, (9.0, 7.0, 7.5, 90, 100, 90)),
        (Compound("urea", (UREA,), (1,)), 213, 8, (8.0, 9.0, 10.0, 90, 90, 90)),
    ],
)
def test_other_units_linear_and_large(compound, hall_number, z, cell):
    limits = PairLimits.from_mapping({("O", "O"): 2.6, ("C", "O"): 2.6, ("H", "O"): 1.6, ("N", "H"): 1.7})
    units = random_units(hall_number, range(6), z, cell, compound)
    result = push_apart(units, limits)
    assert any(result.converged)
    energy, _, _ = overlap_energy_and_gradient(result.units, limits)
    for e, good, unit in zip(energy, result.converged, result.units, strict=True):
        assert (float(e) == 0.0) == good
        assert (float(brute_force_overlap(unit, limits, reach=2)) < 1e-12) == good


def test_settings_out_of_range_are_refused():
    from nanh2lib.errors import InputError

    for data in ({"max_steps": 0}, {"enlarge": 1.0}, {"momentum": 1.0}, {"stepp": 1}):
        with pytest.raises(InputError):
            PushApartSettings.from_mapping(data)

import itertools

import numpy as np
import pytest
import torch
from pymatgen.core import Lattice, Structure

from nanh2lib import expand, published_structures
from nanh2lib.crystal.asymmetric_unit import AsymmetricUnit, Site, Template
from nanh2lib.crystal.expansion import expand_tensors
from nanh2lib.crystal.pair_limits import REALISTIC_LIMITS, PairLimits
from nanh2lib.crystal.rigid_unit import NA, NH2
from nanh2lib.errors import InputError
from nanh2lib.geometry.lattice import cell_heights, lattice_is_valid, lattice_parameters_to_matrix
from nanh2lib.geometry.rotations import random_rotations
from nanh2lib.validation.cells import cells_of_structures
from nanh2lib.validation.contacts import contact_filter, shortest_contacts

CELLS = 10_000
ALPHA = (8.964, 10.456, 8.073, 90.0, 90.0, 90.0)


def random_batch(template, cells, seed):
    generator = torch.Generator().manual_seed(seed)
    count, units = len(cells), template.n_units
    origins = torch.rand(count, units, 3, generator=generator, dtype=torch.float64)
    return AsymmetricUnit(
        template, cells, origins, random_rotations(count * units, generator).reshape(count, units, 3, 3)
    )


def skewed_cells(count, seed):
    generator = torch.Generator().manual_seed(seed)
    lengths = 2 + 8 * torch.rand(8 * count, 3, generator=generator, dtype=torch.float64)
    angles = 5 + 170 * torch.rand(8 * count, 3, generator=generator, dtype=torch.float64)
    parameters = torch.cat([lengths, angles], 1)
    parameters = parameters[lattice_is_valid(parameters)]
    lattices = lattice_parameters_to_matrix(parameters)
    wide = (cell_heights(lattices).amin(-1) > 0.6) & (torch.linalg.det(lattices) > 20)
    return parameters[wide][:count]


def brute_force(unit, cutoff):
    """Shortest distance (B, P) by element pair below the cutoff: every image that can be so close."""
    crystals = expand_tensors(unit)
    species = crystals.species
    pairs = list(itertools.combinations_with_replacement(sorted(set(species)), 2))
    same = crystals.unit_index[:, None] == crystals.unit_index
    difference = crystals.frac_coords[:, :, None] - crystals.frac_coords[:, None]
    # |n| <= cutoff / h + |d|; the difference is not wrapped, so that shift zero means the unit itself.
    reach = torch.floor(cutoff / cell_heights(crystals.lattice) + difference.abs().amax((1, 2))).long()
    result = torch.full((len(unit), len(pairs)), torch.inf, dtype=torch.float64)
    order = reach.prod(-1).argsort()
    start = 0
    while start < len(order):
        chunk = order[start : start + (400 if int(reach[order[start]].prod()) < 30 else 50)]
        start += len(chunk)
        ranges = [range(-int(n), int(n) + 1) for n in reach[chunk].amax(0)]
        shifts = torch.tensor(sorted(itertools.product(*ranges), key=lambda n: n != (0, 0, 0)), dtype=torch.float64)
        cart = crystals.cart_coords[chunk]
        images = cart[:, None] + (shifts @ crystals.lattice[chunk])[:, :, None]  # (b, S, N, 3)
        distance = torch.cdist(cart, images.flatten(1, 2), compute_mode="donot_use_mm_for_euclid_dist")
        distance = distance.unflatten(-1, (len(shifts), len(species)))  # (b, N, S, N)
        distance[:, :, 0].masked_fill_(same, torch.inf)
        nearest = distance.amin(2)
        for p, (a, b) in enumerate(pairs):
            mask = torch.tensor([[{x, y} == {a, b} and (a != b or x == y) for y in species] for x in species])
            result[chunk, p] = nearest[:, mask].amin(-1)
    return torch.where(result <= cutoff, result, torch.inf)


def test_ten_thousand_skewed_cells_agree_with_a_brute_force_image_sum():
    template = Template(1, (Site(NA, "a"), Site(NH2, "a")))
    unit = random_batch(template, skewed_cells(CELLS, 1), 2)
    assert len(unit) == CELLS
    found = shortest_contacts(unit, cutoff=2.9)
    expected = brute_force(unit, 2.9)
    assert torch.equal(torch.isinf(found.distances), torch.isinf(expected))
    finite = torch.isfinite(expected)
    assert (found.distances[finite] - expected[finite]).abs().max() < 1e-9
    verdicts = (expected >= found.limits).all(-1)
    assert torch.equal(found.passed, verdicts)
    assert torch.equal(contact_filter(unit), verdicts)
    assert 0 < int(verdicts.sum()) < CELLS


@pytest.mark.parametrize("hall_number", [81, 15, 213])
def test_filter_measures_and_pymatgen_agree_where_one_image_is_enough(hall_number):
    site = {81: "e", 15: "c", 213: "b"}[hall_number]
    copies = {81: 4, 15: 4, 213: 1}[hall_number]
    template = Template(hall_number, (Site(NA, site),) * copies + (Site(NH2, site),) * copies)
    cells = torch.tensor([ALPHA], dtype=torch.float64).repeat(60, 1)
    unit = random_batch(template, cells, 3)
    # Random draws never pass at full limits: scale them so that some do.
    limits = REALISTIC_LIMITS.scaled(0.25)
    verdicts = contact_filter(unit, limits)
    assert torch.equal(verdicts, shortest_contacts(unit, limits).passed)
    structures = expand(unit)
    table = limits.matrix(structures[0].labels, structures[0].labels).numpy()
    index = np.array(structures[0].site_properties["unit_index"])
    table[index[:, None] == index] = 0
    expected = [bool((s.distance_matrix >= table).all()) for s in structures]
    assert verdicts.tolist() == expected
    assert 0 < sum(expected) < 60
    assert contact_filter(structures, limits).tolist() == expected
    assert contact_filter(expand_tensors(unit), limits).tolist() == expected
    assert contact_filter(unit.to(torch.float32), limits).tolist() == expected


def test_published_structures_have_the_shortest_distances_of_the_notes():
    shortest = {}
    for entry in published_structures():
        table = shortest_contacts([entry.structure], cutoff=4.0)
        for pair, distance in zip(table.pairs, table.distances[0].tolist(), strict=True):
            shortest[pair] = min(distance, shortest.get(pair, np.inf))
    expected = {("Na", "Na"): 2.81, ("N", "Na"): 2.34, ("N", "N"): 3.33, ("H", "Na"): 2.31, ("H", "N"): 2.44}
    for pair, distance in expected.items():
        assert shortest[pair] == pytest.approx(distance, abs=0.006)


def test_atoms_of_a_pair_are_named_in_the_order_of_the_sites():
    frac = [[0, 0, 0], [0.95, 0, 0], [0.5, 0.5, 0.5], [0.563, 0.581, 0.5], [0.563, 0.419, 0.5]]
    structure = Structure(Lattice.cubic(10), ["Na", "Na", "N", "H", "H"], frac)
    table = shortest_contacts([structure])
    place = table.pairs.index(("Na", "Na"))
    assert float(table.distances[0, place]) == pytest.approx(0.5)
    assert set(table.atoms[0, place].tolist()) == {0, 1}
    assert table.tightest(0) == place
    assert not table.passed[0]


def test_own_images_count_and_bonds_do_not():
    # A cell so short that NH2 touches its own image, and nothing else is in it.
    lattice = Lattice.from_parameters(2.0, 9, 9, 90, 90, 90)
    cart = np.array([[0, 0, 0], [0.634, 0.812, 0], [0.634, -0.812, 0]]) + 4
    structure = Structure(lattice, ["N", "H", "H"], cart, coords_are_cartesian=True)
    table = shortest_contacts([structure], cutoff=3.0)
    found = dict(zip(table.pairs, table.distances[0].tolist(), strict=True))
    assert found["N", "N"] == pytest.approx(2.0)
    assert found["H", "N"] == pytest.approx(np.hypot(2 - 0.634, 0.812))
    assert found["H", "H"] == pytest.approx(2.0)


def test_units_come_whole_across_cell_faces_from_the_site_property_or_from_bonds():
    structure = published_structures()[3].structure
    by_bonds = shortest_contacts([structure])
    units = cells_of_structures([structure])[0][1].unit_index.tolist()
    tagged = structure.copy(site_properties={"unit_index": units})
    assert torch.allclose(shortest_contacts([tagged]).distances, by_bonds.distances)
    partial = structure.copy(site_properties={"unit_index": [*units[:-1], None]})
    assert torch.allclose(shortest_contacts([partial]).distances, by_bonds.distances)


def test_nothing_within_reach_is_infinite_and_passes():
    structure = Structure(Lattice.cubic(20), ["Na"], [[0, 0, 0]])
    table = shortest_contacts([structure])
    assert table.distances.tolist() == [[np.inf]]
    assert table.passed.tolist() == [True]
    assert table.atoms.tolist() == [[[-1, -1]]]
    assert contact_filter([structure]).tolist() == [True]


def test_not_a_number_does_not_pass():
    template = Template(1, (Site(NA, "a"), Site(NA, "a")))
    cells = torch.tensor([ALPHA], dtype=torch.float64).repeat(2, 1)
    unit = random_batch(template, cells, 3)
    origins = unit.frac_origins.clone()
    origins[1, 0, 0] = torch.nan
    assert contact_filter(unit.replace(frac_origins=origins)).tolist()[1] is False


@pytest.mark.parametrize(
    "structures",
    [
        [Structure(Lattice.cubic(5), [{"Na": 0.5, "K": 0.5}], [[0, 0, 0]])],
        [Structure(Lattice.cubic(5), ["Na"], [[np.nan, 0, 0]])],
        [Structure(Lattice.cubic(5), ["Na"], [[0, 0, 0]]), Structure(Lattice.cubic(5), ["K"], [[0, 0, 0]])],
        [Structure(Lattice.cubic(1.4), ["C"], [[0, 0, 0]])],
        [Structure(Lattice.cubic(5), [], [])],
    ],
)
def test_what_is_no_batch_of_crystals_is_refused(structures):
    with pytest.raises(InputError):
        shortest_contacts(structures)


def test_limits_by_name():
    limits = PairLimits.from_names({"Na-N": 2.2})
    assert limits.limit("N", "Na") == 2.2
    with pytest.raises(InputError, match="write it like Na-N"):
        PairLimits.from_names({"NaN": 2.2})

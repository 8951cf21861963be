import itertools
from collections import Counter

import numpy as np
import pytest

from nanh2lib.crystal.asymmetric_unit import Template
from nanh2lib.crystal.orientation import orientation_modes
from nanh2lib.crystal.pair_limits import REALISTIC_LIMITS
from nanh2lib.crystal.rigid_unit import NA, NH2, SODIUM_AMIDE, Compound, RigidUnit
from nanh2lib.crystal.space_group import SpaceGroup
from nanh2lib.errors import InputError
from nanh2lib.search.capacity import Room, site_capacity
from nanh2lib.search.templates import TemplateSpace, count_templates, enumerate_templates

ALPHA = (8.964, 10.456, 8.073, 90.0, 90.0, 90.0)
ROOM = Room(ALPHA, REALISTIC_LIMITS)
CO2 = RigidUnit("CO2", ("C", "O", "O"), ((0.0, 0.0, 0.0), (1.16, 0.0, 0.0), (-1.16, 0.0, 0.0)))
DRY_ICE = Compound("CO2", (CO2,), (1,))
TWO_TO_ONE = Compound("Na2NH2", (NA, NH2), (2, 1))


def brute_force(hall_number, compound, z):
    """All multisets of (kind, letter, mode), by trying every number of each option."""
    group = SpaceGroup.from_hall(hall_number)
    options = [
        (kind, site, mode)
        for site in group.wyckoff_sites
        for kind, unit in enumerate(compound.units)
        for mode in range(len(orientation_modes(unit, hall_number, site.letter)))
    ]
    totals = [z * n for n in compound.counts]
    most = [
        min(totals[kind] // site.multiplicity, 1 if site.degrees_of_freedom == 0 else totals[kind])
        for kind, site, _ in options
    ]
    found = set()
    for numbers in itertools.product(*(range(n + 1) for n in most)):
        placed, points = Counter(), Counter()
        for n, (kind, site, _) in zip(numbers, options, strict=True):
            placed[kind] += n * site.multiplicity
            if site.degrees_of_freedom == 0:
                points[site.letter] += n
        if all(placed[k] == t for k, t in enumerate(totals)) and max(points.values(), default=0) <= 1:
            found.add(frozenset(((k, s.letter, m), n) for n, (k, s, m) in zip(numbers, options, strict=True) if n))
    return found


def as_multiset(template: Template, compound):
    kinds = {unit: kind for kind, unit in enumerate(compound.units)}
    return frozenset(Counter((kinds[s.unit], s.wyckoff_letter, s.orientation_mode) for s in template.sites).items())


@pytest.mark.parametrize(
    ("hall_number", "compound", "z"),
    [
        (1, SODIUM_AMIDE, 2),
        (2, SODIUM_AMIDE, 4),
        (3, SODIUM_AMIDE, 2),
        (9, SODIUM_AMIDE, 4),
        (18, SODIUM_AMIDE, 2),
        (81, SODIUM_AMIDE, 8),
        (112, SODIUM_AMIDE, 4),
        (213, SODIUM_AMIDE, 16),
        (335, SODIUM_AMIDE, 16),
        (2, TWO_TO_ONE, 2),
        (81, DRY_ICE, 8),
    ],
)
def test_counted_and_listed_templates_are_those_of_brute_force(hall_number, compound, z):
    expected = brute_force(hall_number, compound, z)
    listed = enumerate_templates(hall_number, compound, z)
    assert count_templates(hall_number, compound, z) == len(expected) == len(listed)
    assert {as_multiset(t, compound) for t in listed} == expected
    assert all(t.formula_units(compound) == z for t in listed)


def test_large_numbers_of_templates_are_counted_not_listed():
    space = TemplateSpace(227, SODIUM_AMIDE, 16)  # Pmmm
    assert space.count > 10**13
    for rank in (0, space.count // 3, space.count - 1):
        assert space[rank].formula_units(SODIUM_AMIDE) == 16
    with pytest.raises(IndexError):
        space[space.count]


def test_points_hold_one_unit_of_any_kind():
    two_ions = Compound("NaCl", (NA, RigidUnit("Cl", ("Cl",))), (1, 1))
    for template in enumerate_templates(2, two_ions, 2):
        letters = Counter(s.wyckoff_letter for s in template.sites if s.wyckoff_letter != "i")
        assert max(letters.values(), default=0) <= 1


def test_alpha_is_among_the_templates_of_its_group_and_its_cell_has_room_for_it():
    labels = {t.label for t in enumerate_templates(335, SODIUM_AMIDE, 16, room=ROOM)}
    assert "Fddd[335] Na:16f NH2:16g" in labels


def test_random_ranks_are_uniform_without_repeats_when_sampled():
    space = TemplateSpace(213, SODIUM_AMIDE, 16)
    assert space.count == 4
    generator = np.random.default_rng(1)
    counts = Counter(space.random_rank(generator) for _ in range(4000))
    assert all(abs(counts[rank] - 1000) < 120 for rank in range(4))  # four standard deviations
    ranks = TemplateSpace(2, SODIUM_AMIDE, 16).ranks(50, generator)
    assert len(set(ranks)) == 50


def test_samples_need_a_generator_and_repeat_with_its_seed():
    with pytest.raises(InputError, match="give a generator"):
        enumerate_templates(2, SODIUM_AMIDE, 16, max_count=10)
    first = enumerate_templates(2, SODIUM_AMIDE, 16, max_count=10, generator=np.random.default_rng(3))
    again = enumerate_templates(2, SODIUM_AMIDE, 16, max_count=10, generator=np.random.default_rng(3))
    assert first == again
    assert len(set(first)) == 10


def test_general_positions_alone():
    (template,) = enumerate_templates(81, SODIUM_AMIDE, 16, general_only=True)
    assert set(template.multiplicities) == {4}
    assert count_templates(335, SODIUM_AMIDE, 16, general_only=True) == 0  # 32 do not divide 16


def test_least_number_of_units():
    for template in enumerate_templates(2, SODIUM_AMIDE, 4):
        assert template.n_units >= 2
    at_least_four = TemplateSpace(9, SODIUM_AMIDE, 16, min_units=5)
    everything = enumerate_templates(9, SODIUM_AMIDE, 16)
    numbers = [Counter(site.unit.name for site in t.sites) for t in everything]
    assert at_least_four.count == sum(n["Na"] >= 5 and n["NH2"] >= 5 for n in numbers)


@pytest.mark.parametrize("z", [0, -1, 1.5, True])
def test_meaningless_z_is_refused(z):
    with pytest.raises(InputError, match="formula units"):
        count_templates(1, SODIUM_AMIDE, z)


def test_capacity_is_a_bound_that_packing_on_a_line_reaches():
    group = SpaceGroup.from_hall(9)  # C2: the axis 0, y, 0 holds one image of each unit per period b
    assert site_capacity(group, group.site("a"), (NA,), ROOM) == int(10.456 / 2.8)
    assert site_capacity(group, group.site("a"), (NA, NH2), ROOM) == int(10.456 / 2.1)
    inversion = SpaceGroup.from_hall(57)  # P2/m: 0, y, 0 and 0, -y, 0 lie on the same line
    assert site_capacity(inversion, inversion.site("i"), (NA,), ROOM) == int(10.456 / 2 / 2.8)
    general = group.wyckoff_sites[-1]
    assert site_capacity(group, general, (NA, NH2), ROOM) > 1000


def test_capacity_of_points_that_are_too_close_to_their_own_images_is_zero():
    group = SpaceGroup.from_hall(2)
    narrow = Room((2.5, 8.0, 8.0, 90.0, 90.0, 90.0), REALISTIC_LIMITS)
    assert site_capacity(group, group.site("a"), (NA,), narrow) == 0
    assert site_capacity(group, group.site("a"), (NA,), ROOM) == 1


def test_published_structures_fit_the_room_of_their_own_cells():
    from nanh2lib import extract_asymmetric_unit, published_structures

    for entry in published_structures():
        unit = extract_asymmetric_unit(entry.structure, compound=SODIUM_AMIDE)
        room = Room(tuple(unit.lattice_parameters[0].tolist()), REALISTIC_LIMITS)
        group = unit.template.space_group
        used = Counter(unit.wyckoff_letters)
        for letter, count in used.items():
            assert count <= site_capacity(group, group.site(letter), (NA, NH2), room), (entry.space_group, letter)

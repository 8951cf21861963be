from collections import Counter

import numpy as np
import pytest
import spglib
import torch

from nanh2lib.crystal.rigid_unit import NA, SODIUM_AMIDE, Compound, RigidUnit
from nanh2lib.crystal.space_group import SpaceGroup
from nanh2lib.errors import InputError
from nanh2lib.records import Check, ValidationReport
from nanh2lib.search.random_search import (
    SearchSettings,
    plan_search,
    random_search,
    search_key,
    search_outcomes,
    searched_settings,
)
from nanh2lib.validation import validate

# P1, P-1, P2_1, C2 (a axis), Pc, P2/c, P2_1/c, P2_12_12, P2_12_12_1, Pca2_1, F2dd, Fddd
TWELVE = (1, 2, 6, 15, 21, 72, 81, 112, 115, 143, 213, 335)


def settings(**changes):
    given = {"space_groups": tuple(f"hall:{h}" for h in TWELVE), "per_setting": 4}
    return SearchSettings.from_mapping({**given, **changes})


def found(config, **kwargs):
    return list(random_search(config, progress=False, **kwargs))


@pytest.fixture(scope="module")
def candidates():
    return found(settings(), validator=validate)


def test_every_setting_gets_its_equal_share(candidates):
    accepted = Counter(c.asymmetric_unit.hall_number for c in candidates if c.accepted)
    assert accepted == dict.fromkeys(TWELVE, 4)


def test_each_accepted_crystal_is_recovered_in_its_group_by_spglib(candidates):
    for candidate in candidates:
        if candidate.accepted:
            s = candidate.structure
            cell = (s.lattice.matrix, s.frac_coords, s.atomic_numbers)
            assert spglib.get_symmetry_dataset(cell, symprec=1e-2).number == candidate.space_group_number
            assert len(s) == 64
            assert s.composition.reduced_formula == "NaH2N"


def test_special_positions_and_many_units_occur(candidates):
    sites = Counter()
    fewest: dict[int, list[int]] = {}  # units of the rarer kind, by setting
    for candidate in candidates:
        unit = candidate.asymmetric_unit
        if candidate.accepted:
            names = Counter(u.name for u in unit.units)
            fewest.setdefault(unit.hall_number, []).append(min(names["Na"], names["NH2"]))
            sites.update((u.name, symmetry) for u, symmetry in zip(unit.units, unit.site_symmetries, strict=True))
    assert sites["NH2", "2"] > 0
    assert sites["Na", "-1"] > 0
    numbers = [number for found in fewest.values() for number in found]
    assert sum(number >= 4 for number in numbers) >= len(numbers) / 2
    assert sum(min(found) >= 4 for found in fewest.values()) >= len(fewest) / 2


def test_rejected_candidates_stay_with_their_reason(candidates):
    rejected = [c for c in candidates if not c.accepted]
    assert all(c.report.reason for c in rejected)
    assert len({c.id for c in candidates}) == len(candidates)


def test_same_seed_same_bits_and_another_seed_another_crystal():
    config = settings(space_groups=("hall:81", "hall:9"), per_setting=3)
    first, again = found(config), found(config)
    assert [c.id for c in first] == [c.id for c in again]
    for one, two in zip(first, again, strict=True):
        assert torch.equal(one.asymmetric_unit.frac_origins, two.asymmetric_unit.frac_origins)
        assert torch.equal(one.asymmetric_unit.rotations, two.asymmetric_unit.rotations)
        assert np.array_equal(one.structure.frac_coords, two.structure.frac_coords)
    other = found(config.model_copy(update={"seed": 1}))
    assert not {c.id for c in other} & {c.id for c in first}


def test_a_killed_run_goes_on_without_repeating_or_losing_anything():
    config = settings(space_groups=("hall:81", "hall:72"), per_setting=6)
    whole = found(config, validator=validate)
    cut = len(whole) // 2
    known = {c.id: c.accepted for c in whole[:cut]}
    rest = found(config, validator=validate, known=known)
    assert [c.id for c in rest] == [c.id for c in whole[cut:]]
    for one, two in zip(rest, whole[cut:], strict=True):
        assert torch.equal(one.asymmetric_unit.frac_origins, two.asymmetric_unit.frac_origins)
    assert found(config, validator=validate, known={c.id: c.accepted for c in whole}) == []


def test_asking_for_more_keeps_what_is_there():
    few = found(settings(space_groups=("hall:9",), per_setting=2))
    more = found(settings(space_groups=("hall:9",), per_setting=5))
    assert [c.id for c in more[: len(few)]] == [c.id for c in few]
    assert search_key(settings(per_setting=2), SODIUM_AMIDE) == search_key(settings(per_setting=5), SODIUM_AMIDE)
    assert search_key(settings(seed=1), SODIUM_AMIDE) != search_key(settings(), SODIUM_AMIDE)


def test_the_validator_decides_and_its_reason_is_kept():
    def never(units):
        return [ValidationReport((Check("taste", False, "bland", "salty", "no salt"),)) for _ in units]

    config = settings(space_groups=("hall:81",), per_setting=2, max_draws_per_setting=20)
    rejected = found(config, validator=never)
    assert len(rejected) == 20
    assert not any(c.accepted for c in rejected)
    (outcome,) = search_outcomes(config, rejected)
    assert outcome.accepted == 0
    assert "20 of 20 draws failed taste: no salt" in outcome.reason


def test_too_much_symmetry_is_rejected_as_gained():
    # One atom in a right-angled cell is Pmmm, whatever group it was drawn in.
    config = settings(space_groups=("hall:1", "hall:2"), per_setting=1, max_draws_per_setting=2, z=1)
    alone = Compound("Na", (NA,), (1,))
    rejected = found(config, compound=alone, validator=validate)
    assert len(rejected) == 4
    assert all("symmetry gained" in c.report.reason and "Pmmm (47)" in c.report.reason for c in rejected)


def test_a_setting_without_room_ends_with_its_reason():
    config = settings(space_groups=("hall:1", "hall:81"), limit_scale=1.5, per_setting=2, max_draws_per_setting=24)
    rejected = found(config)
    assert not any(c.accepted for c in rejected)
    outcomes = search_outcomes(config, rejected)
    assert [o.draws for o in outcomes] == [24, 24]
    assert all("push_apart" in o.reason and "worst pair" in o.reason for o in outcomes)


def test_plan_counts_templates_before_the_run():
    plans = {p.hall_number: p for p in plan_search(settings())}
    assert plans[81].templates == 8
    assert plans[1].templates == 1
    assert plans[335].symbol == "Fddd"


def test_settings_that_cannot_hold_z_are_planned_with_zero_and_all_of_them_is_an_error():
    config = settings(space_groups=("hall:335",), z=3)
    assert plan_search(config)[0].templates == 0
    with pytest.raises(InputError, match="no space group of the search holds 3 x NaNH2"):
        found(config)
    mixed = settings(space_groups=("hall:335", "hall:1"), z=3, per_setting=1)
    outcomes = search_outcomes(mixed, found(mixed))
    assert outcomes[0].reason == "no site template adds up to Z formula units"
    assert outcomes[1].reason == ""


def test_groups_by_number_symbol_and_hall_number():
    assert searched_settings(settings(space_groups=(19,))) == (115,)
    assert searched_settings(settings(space_groups=("P2_1/c",))) == tuple(range(81, 90))
    assert searched_settings(settings(space_groups=("Fdd2",))) == (212, 213, 214)
    assert searched_settings(settings(space_groups=("F2dd",))) == (213,)
    assert searched_settings(settings(space_groups=("hall:213", "F2dd"))) == (213,)
    assert len(searched_settings(settings(space_groups=()))) == 306


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"per_setting": 0}, "per_setting"),
        ({"per_setting": -3}, "per_setting"),
        ({"z": 0}, "z"),
        ({"limit_scale": -1}, "limit_scale"),
        ({"batch_size": 0}, "batch_size"),
        ({"general_share": 1.5}, "general_share"),
        ({"pair_limits": {"NaN": 2.0}}, "write it like Na-N"),
        ({"pair_limits": {"Na-Xx": 2.0}}, "not an element"),
        ({"pair_limits": {"Na-N": -2.0}}, "positive"),
        ({"per_seting": 3}, "did you mean 'per_setting'"),
        ({"lattice": {"kind": "fixed", "parametres": (1,) * 6}}, "did you mean 'parameters'"),
    ],
)
def test_bad_settings_get_one_clear_error(data, message):
    with pytest.raises(InputError, match=message):
        SearchSettings.from_mapping(data)


@pytest.mark.parametrize("group", [225, "P4/mmm", "hall:530"])
def test_a_group_that_does_not_fit_the_cell_is_refused(group):
    with pytest.raises(InputError, match="does not fit the cell"):
        found(settings(space_groups=(group,)))


@pytest.mark.parametrize("group", [0, 231, "Pxyz", "hall:0", "hall:x"])
def test_a_group_that_does_not_exist_is_refused(group):
    with pytest.raises(InputError):
        found(settings(space_groups=(group,)))


def test_another_compound_in_a_free_cell():
    co2 = RigidUnit("CO2", ("C", "O", "O"), ((0.0, 0.0, 0.0), (1.16, 0.0, 0.0), (-1.16, 0.0, 0.0)))
    compound = Compound("CO2", (co2,), (1,))
    config = SearchSettings.from_mapping(
        {
            "z": 4,
            "space_groups": (205, 14, 61),
            "per_setting": 1,
            "lattice": {"kind": "volume", "volume_per_formula_unit": 45.0},
            "pair_limits": {"C-C": 3.2, "C-O": 2.8, "O-O": 2.7},
        }
    )
    results = found(config, compound=compound, validator=lambda units: validate(units, _limits_of(config)))
    by_group = Counter(c.space_group_number for c in results if c.accepted)
    assert by_group[14] == len([h for h in searched_settings(config) if SpaceGroup.from_hall(h).number == 14])
    assert by_group[205] == 1


def _limits_of(config):
    from nanh2lib.validation import ValidationSettings

    return ValidationSettings(pair_limits=config.pair_limits, limit_scale=config.limit_scale)


@pytest.mark.slow
def test_every_setting_that_the_alpha_cell_allows_delivers():
    config = SearchSettings(per_setting=1, max_draws_per_setting=200)
    results = found(config, validator=validate)
    accepted = Counter(c.asymmetric_unit.hall_number for c in results if c.accepted)
    assert accepted == dict.fromkeys(searched_settings(config), 1)
    assert len(accepted) == 306

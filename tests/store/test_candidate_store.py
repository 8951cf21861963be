import dataclasses
import math

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pymatgen.core import Lattice, Structure

from nanh2lib.errors import InputError
from nanh2lib.records import Candidate
from nanh2lib.store import CandidateStore, Label
from nanh2lib.store.codec import candidate_to_record, record_to_candidate, record_to_structure, structure_to_record
from tests.store.conftest import make_candidates, make_relaxation


def assert_same(one, other):
    """Equal to the last bit."""
    for name in ("id", "method", "seed", "config_hash", "package_version", "report"):
        assert getattr(one, name) == getattr(other, name)
    for name in ("energies", "failures", "extra"):
        assert dict(getattr(one, name)) == dict(getattr(other, name))
    assert_same_structure(one.structure, other.structure)
    assert (one.asymmetric_unit is None) == (other.asymmetric_unit is None)
    if one.asymmetric_unit is not None:
        assert one.asymmetric_unit.to_dict() == other.asymmetric_unit.to_dict()


def assert_same_structure(one, other):
    assert (one.lattice.matrix == other.lattice.matrix).all()
    assert (one.frac_coords == other.frac_coords).all()
    assert [site.species_string for site in one] == [site.species_string for site in other]


def test_a_candidate_comes_back_bit_by_bit(url):
    store = CandidateStore(url)
    given_ones = make_candidates(3) + make_candidates(2, accepted=False, method="paper", prefix="p")
    bare = dataclasses.replace(given_ones[0], id="bare", asymmetric_unit=None, report=None, extra={})
    assert store.add([*given_ones, bare]) == len(store) == 6
    reopened = CandidateStore(url, create=False)
    for candidate in (*given_ones, bare):
        assert_same(candidate, reopened.get(candidate.id))
    assert [c.id for c in reopened.candidates()] == [c.id for c in (*given_ones, bare)] == reopened.ids()


def test_adding_the_same_id_again_changes_nothing(url):
    store = CandidateStore(url)
    first, second = make_candidates(2)
    assert store.add(first) == 1
    store.set_energy(first.id, "chgnet", "abc", -18.0)
    impostor = dataclasses.replace(second, id=first.id)
    assert store.add([impostor, second]) == 1
    assert_same(store.get(first.id), dataclasses.replace(first, energies={"chgnet": -18.0}))
    assert first.id in store
    assert "nobody" not in store


def test_filters(url):
    store = CandidateStore(url)
    good, bad = make_candidates(3), make_candidates(2, accepted=False, method="paper", prefix="p")
    other = dataclasses.replace(good[0], id="other", config_hash="1e5", asymmetric_unit=None)
    store.add([*good, *bad, other])
    assert store.count() == 6
    assert store.count(accepted=True) == 4
    assert store.ids(accepted=False) == store.ids(method="paper") == ["p0000", "p0001"]
    assert store.count(space_group=18) == 5
    assert store.count(space_group=14) == 0
    assert store.ids(config_hash="1e5") == ["other"]
    assert [c.id for c in store.candidates(method="random_search", accepted=True, config_hash="1e5")] == ["other"]
    assert store.count(method=None) == 6
    with pytest.raises(InputError, match="unknown filter 'metod' of the store; known: method"):
        store.count(metod="paper")


def test_labels_are_unique_by_potential_hash_and_failures_give_way_to_values(url):
    store = CandidateStore(url)
    (candidate,) = make_candidates(1)
    store.add(candidate)
    assert store.pending("h1") == [candidate.id]
    assert store.set_failure(candidate.id, "gpaw", 'no "convergence"', potential_hash="h1")
    assert store.pending("h1") == []
    assert store.pending("h1", retry_failures=True) == [candidate.id]
    assert store.get(candidate.id).failures == {"gpaw": 'no "convergence"'}
    assert store.set_energy(candidate.id, "gpaw", "h1", -16.0)
    assert store.get(candidate.id).failures == {}
    assert not store.set_energy(candidate.id, "gpaw", "h1", -99.0)
    assert not store.set_failure(candidate.id, "gpaw", "late", potential_hash="h1")
    assert store.set_energy(candidate.id, "gpaw", "h2", -16.1)
    assert store.set_energy(candidate.id, "chgnet", "h3", -18.0)
    assert store.get(candidate.id).energies == {"gpaw": -16.1, "chgnet": -18.0}
    assert store.labels(candidate.id) == (
        Label("gpaw", "h1", -16.0),
        Label("gpaw", "h2", -16.1),
        Label("chgnet", "h3", -18.0),
    )
    assert store.pending("h2", retry_failures=True) == []


def test_what_is_no_number_is_refused_as_an_energy(url):
    store = CandidateStore(url)
    (candidate,) = make_candidates(1)
    store.add(candidate)
    for value in (math.nan, math.inf, -math.inf):
        with pytest.raises(InputError, match="set_failure takes the reason"):
            store.set_energy(candidate.id, "chgnet", "h", value)
    assert store.labels(candidate.id) == ()
    with pytest.raises(InputError, match="no candidate 'nobody'"):
        store.set_energy("nobody", "chgnet", "h", -18.0)
    with pytest.raises(InputError, match="no candidate 'nobody'"):
        store.get("nobody")


def test_relaxations_by_key_and_version(url):
    store = CandidateStore(url)
    first, second = make_candidates(2)
    store.add([first, second])
    key, result = "rigid:chgnet", make_relaxation(first)
    assert store.set_relaxation(first.id, key, result, version="v1")
    assert not store.set_relaxation(first.id, key, make_relaxation(first, -99.0), version="v1")
    found = store.get(first.id).relaxations[key]
    assert_same_structure(found.structure, result.structure)
    assert found.asymmetric_unit.to_dict() == result.asymmetric_unit.to_dict()
    for name in ("stage", "potential", "energy_final", "evaluations", "converged", "flags"):
        assert getattr(found, name) == getattr(result, name)
    assert math.isnan(found.fmax)
    assert store.set_failure(second.id, key, "exploded", version="v1")
    assert store.get(second.id).failures == {key: "exploded"}
    assert store.pending(key, "v1") == []
    assert store.pending(key, "v1", retry_failures=True) == [second.id]
    assert store.pending(key, "v2") == [first.id, second.id]
    assert store.set_relaxation(first.id, key, make_relaxation(first, -18.5), version="v2")
    assert store.get(first.id).relaxations[key].energy_final == -18.5
    assert not store.set_failure(first.id, key, "late", version="v2")


def test_the_store_may_be_written_to_while_it_is_iterated_over(url):
    store = CandidateStore(url)
    store.add(make_candidates(4))
    for i, candidate in enumerate(store.candidates()):
        store.set_energy(candidate.id, "chgnet", "h", -float(i))
    assert [c.energies["chgnet"] for c in store.candidates()] == [0, -1, -2, -3]


def test_ase_reads_the_database_too(tmp_path):
    from ase.db import connect

    path = tmp_path / "store.db"
    store = CandidateStore(path)
    (candidate,) = make_candidates(1)
    store.add(candidate)
    store.set_energy(candidate.id, "sevennet-0", "h", -17.8)
    row = connect(path, use_lock_file=False).get(unique_id=candidate.id)
    assert row.formula == "Na2H4N2"
    assert row.ev_per_fu_sevennet_0 == -17.8
    assert row.space_group == 18
    assert row.user == ""
    np.testing.assert_allclose(row.toatoms().positions, candidate.structure.cart_coords, atol=1e-12)


def test_energies_that_come_with_a_candidate_are_shown_but_do_not_count_as_done(url):
    store = CandidateStore(url)
    candidate = dataclasses.replace(make_candidates(1)[0], energies={"gpaw": -16.0}, failures={"stage": "why"})
    store.add(candidate)
    assert_same(store.get(candidate.id), candidate)
    assert store.pending("hash") == [candidate.id]


def test_disordered_crystals_and_odd_extras_are_refused_and_nothing_is_added(tmp_path):
    store = CandidateStore(tmp_path / "store.db")
    good = make_candidates(1)[0]
    disordered = Structure(Lattice.cubic(3), [{"Na": 0.5}], [[0, 0, 0]])
    with pytest.raises(InputError, match="partly occupied"):
        store.add([good, dataclasses.replace(good, id="x", structure=disordered)])
    with pytest.raises(InputError, match="numbers, strings, lists and mappings only"):
        store.add([good, dataclasses.replace(good, id="x", extra={"a": object()})])
    with pytest.raises(InputError, match=r"candidate x: .*1e5"):
        store.add([good, dataclasses.replace(good, id="x", method="1e5")])
    assert len(store) == 0


finite = st.floats(-1e3, 1e3, allow_nan=False)
lattices = st.tuples(*[st.floats(2.0, 20.0)] * 3, *[st.floats(60.0, 119.0)] * 3)


@given(
    lattices,
    st.lists(st.tuples(st.sampled_from(["Na", "N", "H", "D"]), finite, finite, finite), min_size=1, max_size=6),
)
@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_records_keep_every_bit_of_any_structure(parameters, sites):
    structure = Structure(Lattice.from_parameters(*parameters), [s[0] for s in sites], [s[1:] for s in sites])
    if not np.isfinite(structure.lattice.matrix).all():
        return
    assert_same_structure(record_to_structure(structure_to_record(structure)), structure)
    candidate = Candidate("i", structure, "m", 1, "c", "v", extra={"x": np.float64(0.1), "y": np.arange(3)})
    again = record_to_candidate(candidate_to_record(candidate))
    assert again.extra == {"x": 0.1, "y": [0, 1, 2]}


def test_a_thousand_candidates_are_added_in_seconds(tmp_path):
    import time

    store = CandidateStore(tmp_path / "store.db")
    candidates = make_candidates(1000)
    start = time.perf_counter()
    assert store.add(candidates) == 1000
    assert time.perf_counter() - start < 20  # about 2 s on an idle core

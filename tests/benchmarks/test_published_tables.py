"""The study of Tables S1 and S2: a sample of its committed evidence computed again, and its small parts."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from benchmarks.published_tables.confirming import Crystals
from benchmarks.published_tables.relaxations import kicked_entry, relax_published, structure_of, verdict
from benchmarks.published_tables.searching import (
    SAME_END,
    Task,
    displaced_starts,
    find_row,
    random_starts,
    read_searches,
    reference,
    relaxed_crystal,
    run_series,
    search_settings,
)
from benchmarks.published_tables.settings import (
    BETTER,
    POTENTIALS,
    QUICK,
    RESULTS,
    SEARCH_COLUMNS,
    full_relaxation,
    read_rows,
    search_relaxation,
)
from benchmarks.published_tables.summary import (
    best_finds,
    counted_hits,
    find_evidence,
    model_evidence,
    searches_summary,
    study_alpha,
)
from nanh2lib.crystal.rigid_unit import SODIUM_AMIDE
from nanh2lib.energy.labels import energy_per_formula_unit
from nanh2lib.errors import ComputationError, InputError
from nanh2lib.records import RelaxationResult
from nanh2lib.relaxation import relax
from nanh2lib.report.published import published_structure
from nanh2lib.report.reference_energies import reference_crystals
from nanh2lib.settings import config_hash
from nanh2lib.validation.contacts import contact_filter

RELAXED = read_rows(RESULTS / "relaxed.json")


def test_evidence_says_what_made_it():
    paths = [RESULTS / f"{name}.json" for name in ("relaxed", "kicks", "references", "confirmed")]
    for path in filter(lambda file: file.exists(), paths):
        name, content = path.stem, read_rows(path)
        assert content["command"].startswith("python -m benchmarks.published_tables")
        assert content["config"]
        entries = content["rows"].values()
        flat = [e for entry in entries for e in (entry.values() if name == "relaxed" else [entry])]
        assert all(entry["date"] and entry["version"] for entry in flat)


def test_every_structure_was_relaxed_with_the_default_potential():
    for key in reference_crystals():
        entry = RELAXED["rows"][key][BETTER]
        assert entry["converged"], key
        assert set(entry["flags"]) <= {"symmetry_gained"}


@pytest.mark.parametrize("potential", ["sevennet-0", "chgnet"])
def test_committed_energies_are_those_of_the_committed_crystals(potential):
    for key in ("S1-P21212", "S1-P21c", "alpha"):
        entry = RELAXED["rows"][key][potential]
        energy = energy_per_formula_unit(structure_of(entry), potential, SODIUM_AMIDE)
        assert energy == pytest.approx(entry["ev_per_fu"], abs=1e-3), key


@pytest.mark.parametrize("potential", sorted(RELAXED["rows"]["S1-P21212"]))
def test_the_smallest_structure_relaxes_to_the_committed_one_again(potential):
    entry = RELAXED["rows"]["S1-P21212"][potential]
    last = relax(published_structure("S1-P21212").structure, full_relaxation(potential), SODIUM_AMIDE)[-1]
    assert last.energy_final == pytest.approx(entry["ev_per_fu"], abs=1e-3)
    assert np.allclose(last.structure.lattice.parameters, entry["cell"], rtol=5e-3)


FINDS = read_searches(RESULTS).query("key == 'S1-P21212' and found == 1").sort_values("number")
FINDS = FINDS.drop_duplicates("potential")


@pytest.mark.parametrize("row", [row for _, row in FINDS.iterrows()], ids=FINDS["potential"].tolist())
def test_a_find_of_the_search_is_found_again(tmp_path, row):
    number = int(row["number"])
    task = Task("S1-P21212", "free", "random_search", int(row["seed"]), RESULTS, tmp_path, row["potential"])
    assert task.identity(number) == row["sample_id"]
    unit = dict(random_starts(task, number + 1))[number]
    again = find_row(
        task, number, unit, relax(unit, search_relaxation("free", row["potential"]), SODIUM_AMIDE), reference(task)
    )
    assert again["found"]
    assert again["energy_final"] == pytest.approx(row["energy_final"], abs=2e-3)


def test_references_were_made_with_the_settings_of_the_searches():
    for name, entry in read_rows(RESULTS / "references.json").get("rows", {}).items():
        cell = "free" if "-free" in name else "printed"
        assert entry["config_hash"] == config_hash(search_relaxation(cell, entry["potential"]))


def test_searches_keep_to_the_printed_setting_and_cell():
    item = published_structure("S2-P21c")
    clamped = search_settings(item.key, "printed", 5, 0)
    assert clamped.lattice.parameters == tuple(item.corrected.lattice_parameters)
    assert clamped.general_only
    free = search_settings(item.key, "free", 5, 0)
    assert free.lattice.kind == "volume"
    with pytest.raises(InputError, match="choose 'free' or 'printed'"):
        search_settings(item.key, "other", 5, 0)


def test_displaced_starts_keep_the_limits_and_begin_at_the_printed_structure(tmp_path):
    task = Task("S2-P21c", "printed", "displaced-0.2", 0, tmp_path, tmp_path)
    starts = dict(displaced_starts(task, 0.2, 3))
    assert len(starts) == 3
    batch = [contact_filter(unit).all() for unit in starts.values()]
    assert all(batch)
    again = dict(displaced_starts(task, 0.2, 3))
    assert all(bool((starts[k].frac_origins == again[k].frac_origins).all()) for k in starts)


def _result(energy, **changes):
    structure = published_structure("S1-P21212").structure
    base = {"structure": structure, "stage": "released", "potential": "x", "energy_start": energy,
            "energy_final": energy, "evaluations": 3, "converged": True, "space_group_before": 18,
            "space_group_after": 18, "fmax": 0.0, "max_stress": 0.0}  # fmt: skip
    return RelaxationResult(**(base | changes))


def test_verdict_of_a_kick():
    assert verdict(0.2, _result(-1.0)) == "minimum"
    assert verdict(-3.0, _result(-1.0, flags=("symmetry_lost",))) == "not a minimum"
    assert verdict(0.2, _result(-1.0, flags=("symmetry_lost",))) == "undecided"
    assert verdict(0.2, _result(-1.0, converged=False)) == "undecided"
    crystal = published_structure("S1-P21212").structure
    entry = kicked_entry(crystal, (1, 1, 1), {"ev_per_fu": -1.0}, _result(-1.0), 0.1)
    assert entry["verdict"] == "minimum"
    assert entry["rms_displacement_a"] == pytest.approx(0.0, abs=1e-9)


def test_finished_relaxations_are_not_repeated(tmp_path):
    rows = {"S1-P21212": {name: {"ev_per_fu": -1.0} for name in POTENTIALS}}
    (tmp_path / "relaxed.json").write_text(json.dumps({"command": "c", "config": {}, "rows": rows}))
    assert list(relax_published(tmp_path, BETTER, ("S1-P21212",))) == []


def test_a_series_goes_on_where_it_stopped(tmp_path):
    task = Task("S1-P21212", "free", "random_search", 0, tmp_path, tmp_path / "work")
    first = list(run_series(task, random_starts(task, 2)))
    assert len(first) == 2
    assert len(list(run_series(task, random_starts(task, 3)))) == 1
    table = read_searches(tmp_path)
    assert list(table.columns) == list(SEARCH_COLUMNS)
    assert table["sample_id"].is_unique

    row = table[table["energy_final"].notna()].iloc[0].to_dict()
    path = task.work / f"{row['sample_id']}.json"
    kept = path.read_bytes()
    path.unlink()
    again = Crystals(tmp_path, task.work, table)(row)
    assert json.loads(path.read_bytes()).keys() == json.loads(kept).keys()
    assert again.energy_final == pytest.approx(row["energy_final"], abs=SAME_END)
    path.unlink()
    starts, wrong = dict(random_starts(task, 3)), row["energy_final"] - 2 * SAME_END
    other = relaxed_crystal(task, row["number"], starts.__getitem__, wrong, same=False)
    assert other.energy_final == again.energy_final
    assert not path.exists()
    with pytest.raises(ComputationError, match="made again it ends at"):
        Crystals(tmp_path, task.work, table)({**row, "energy_final": wrong})
    assert not path.exists()


def test_relaxations_until_found_are_counted():
    base = dict.fromkeys(SEARCH_COLUMNS, None) | {
        "key": "k",
        "cell": "free",
        "method": "random_search",
        "seed": 0,
        "potential": QUICK,
    }
    rows = [
        base | {"number": n, "sample_id": f"s{n}", "evaluations": 10, "energy_final": -1.0, "found": int(n in (2, 4)),
                "mev_from_published": gap}
        for n, gap in enumerate([30.0, -20.0, 0.1, 50.0, 0.2])
    ]  # fmt: skip
    numbers = searches_summary(pd.DataFrame(rows))[f"k, free, random_search, {QUICK}"]
    assert (numbers["relaxations_until_found"], numbers["evaluations_until_found"]) == (3, 30)
    assert (numbers["hits"], numbers["below_published"], numbers["first_found"]) == (2, 1, "s2")


def _finds(*finds):
    base = dict.fromkeys(SEARCH_COLUMNS, None) | {"key": "k", "cell": "free", "seed": 0, "evaluations": 10}
    return pd.DataFrame(
        [
            base | {"number": n, "sample_id": f"s{n}", "method": method, "potential": potential, "found": found,
                    "energy_final": -1.0, "mev_from_published": 0.1 if found else 30.0, "rms": 0.01}
            for n, (method, potential, found) in enumerate(finds)
        ]
    )  # fmt: skip


def test_a_hit_that_the_better_potential_refutes_does_not_count():
    rows = _finds(("random_search", QUICK, 0), ("random_search", QUICK, 1), ("random_search", QUICK, 1))
    assert counted_hits(rows, {})["sample_id"].tolist() == ["s1", "s2"]
    assert counted_hits(rows, {"s1": {"found": False}}).empty
    sure = counted_hits(rows, {"s1": {"found": False}, "s0": {"found": True}})
    assert sure["sample_id"].tolist() == ["s0"]


def test_evidence_says_who_found_a_structure_and_how():
    rows = _finds(("random_search", QUICK, 0), ("random_search", BETTER, 1), ("model-40", QUICK, 0))
    found = find_evidence("k", "search", rows, {})
    assert found["found"]
    assert (found["id"], found["potential"], found["relaxations"]) == ("s1", BETTER, 2)
    assert found["command"].endswith(f"search --key k --cell free --count 2 --seed 0 --potential {BETTER}")
    missed = find_evidence("k", "model", rows, {})
    assert not missed["found"]
    assert missed["command"].endswith("model --key k --count 1 --seed 0 --learn 40")
    assert find_evidence("other", "model", rows, {}) is None


def test_every_crystal_confirmed_in_a_printed_cell_is_among_our_own():
    confirmed = read_rows(RESULTS / "confirmed.json")["rows"]
    printed = {name for name, entry in confirmed.items() if "-printed-" in name and "failure" not in entry}
    best = best_finds(confirmed)
    assert set(best["rows"]) <= printed
    assert {confirmed[name]["key"] for name in printed} == set(best["by_key"])
    energies = [confirmed[name]["ev_per_fu"] for name in best["best"]]
    assert len(energies) == min(4, len(best["rows"]))
    assert energies == sorted(energies)


def test_what_the_page_says_of_the_searches():
    """Sentences of book/what-holds.md under "Found by ourselves, or not"."""
    summary = read_rows(RESULTS / "summary.json")
    series, found, best = summary["searches"], summary["found"], summary["best"]
    assert all(found[key]["search"]["relaxations_until_found"] <= 5 for key in ("S1-P21212", "S1-P21c"))
    rows = read_searches(RESULTS).query(f"potential == '{BETTER}'")
    gaps = rows.loc[rows["key"] == "S1-Pcca", "mev_from_published"]
    lowest = gaps[gaps < gaps.min() + 1.0]
    assert lowest.max() < -10
    assert len(lowest) > 3  # "again and again"
    assert not found["S1-Pcca"]["search"]["found"]
    keys = ("S2-P21c", "S2-P2c", "S2-Pc", "S2-P21")
    assert not any(found[key][who]["found"] for key in keys for who in ("search", "model"))
    pairs = {k: [series[f"{k}, printed, {m}, {QUICK}"] for m in ("model", "random_search")] for k in keys}
    each = {k: [part["evaluations"] / part["relaxations"] for part in pair] for k, pair in pairs.items()}
    calls = [model / search for model, search in each.values()]
    assert 1 / 4 < np.mean(calls) < 2 / 5
    lower = {k: search["median_mev_from_published"] - model["median_mev_from_published"]
             for k, (model, search) in pairs.items()}  # fmt: skip
    assert all(lower[key] > 20 for key in ("S2-P21c", "S2-P2c", "S2-P21"))
    assert abs(lower["S2-Pc"]) < 5
    taught = {k: series[f"{k}, printed, model-40, {QUICK}"]["median_mev_from_published"] for k in keys}
    shipped = {k: pair[0]["median_mev_from_published"] for k, pair in pairs.items()}
    assert {k for k in keys if taught[k] < shipped[k]} == {"S2-Pc"}
    for key in ("S2-P21c", "S2-P21"):
        lowest_of = {"model": [], "model-40": []}
        for row in best["rows"].values():
            if row["key"] == key and row["method"] in lowest_of:
                lowest_of[row["method"]].append(row["mev_from_published"])
        assert min(lowest_of["model-40"]) < min(lowest_of["model"])  # relaxed with SevenNet-0
    low = {
        key: min(best["rows"][name]["mev_from_published"] for name in names) for key, names in best["by_key"].items()
    }
    assert all(low[key] < -5 for key in keys)
    deepest = min(best["rows"], key=lambda name: best["rows"][name]["mev_from_published"])
    row = best["rows"][deepest]
    assert (row["key"], row["method"], round(row["mev_from_published"])) == ("S2-P21", "random_search", -66)
    assert (row["space_groups"]["0.01"], row["space_groups"]["0.05"]) == (4, 41)  # Aea2
    assert series[f"S2-P21, printed, random_search, {QUICK}"]["relaxations"] == 40
    published = [height for key, height in summary["energies"][BETTER]["mev_above_alpha"].items() if key != "alpha"]
    ours = [row["mev_above_alpha"] for row in best["rows"].values()]
    assert min(ours) > 0
    assert sum(height < min(published) for height in ours) > 1


def test_what_the_page_says_of_the_kicks():
    verdicts = {key: entry["verdict"] for key, entry in read_rows(RESULTS / "kicks.json")["rows"].items()}
    assert {key for key, verdict in verdicts.items() if verdict != "minimum"} == {"alpha"}
    assert set(verdicts) == set(reference_crystals())
    alpha = read_rows(RESULTS / "kicks.json")["rows"]["alpha"]
    assert alpha["space_groups_after"]["0.05"] == 15  # C2/c
    assert -20 < alpha["energy_change_mev"] < -3


def test_alpha_counts_as_found_by_a_model_that_was_not_shown_it(tmp_path):
    columns = ("method", "held_out", "variant", "template", "matches_alpha", "energy_final", "evaluations", "screening")
    rows = [
        ("geometric", 0, "screened", "C2", 1, -18.0, 20, 8),  # taught
        ("geometric", 1, "screened", "C2", 0, -17.9, 20, 8),
        ("geometric", 1, "guide-x0", "C2", 1, -18.0, 20, 0),  # a model taken apart
        ("geometric", 1, "screened", "P2_1/c", 0, -17.9, 20, 8),  # cannot hold alpha
        ("random", 0, "default", "C2", 1, -17.999, 30, 0),
        ("random", 0, "default", "Fddd", 1, -18.0, 30, 0),  # easy
    ]
    frame = pd.DataFrame(rows, columns=columns).assign(sample_id=[f"row-{k}" for k in range(len(rows))])
    (tmp_path / "alpha.json").write_text('{"energy_ev_per_fu": -18.0}')
    assert study_alpha(tmp_path) == {}
    frame.to_csv(tmp_path / "relaxations.csv", index=False)
    study = study_alpha(tmp_path)
    assert {name: entry["taught"] for name, entry in study.items()} == {
        "geometric, screened, C2": True, "geometric held out, screened, C2": False, "random, default, C2": False,
    }  # fmt: skip
    assert study["random, default, C2"]["first"]["energy_difference_mev"] == pytest.approx(1.0)
    assert study["geometric, screened, C2"]["evaluations"] == 28
    evidence = model_evidence(study)
    assert (evidence["found"], evidence["relaxations"], evidence["hits"]) == (False, 1, 0)
    frame.loc[1, "matches_alpha"] = 1
    frame.to_csv(tmp_path / "relaxations.csv", index=False)
    evidence = model_evidence(study_alpha(tmp_path))
    assert (evidence["found"], evidence["hits"], evidence["id"]) == (True, 1, "row-1")
    assert model_evidence({"random, default, C2": {"taught": False}}) is None

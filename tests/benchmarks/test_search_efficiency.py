"""The search-efficiency study: statistics against closed forms, tables that survive kills, a tiny real run."""

from __future__ import annotations

import dataclasses
import json
import math
from importlib.resources import files

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats

from benchmarks.search_efficiency.batches import settle
from benchmarks.search_efficiency.confirming import (
    Confirmation,
    best_finds,
    confirm,
    confirmed_row,
    read_confirmation,
)
from benchmarks.search_efficiency.judged import (
    JUDGED,
    RELAXATION_COLUMNS,
    RESULTS,
    SAMPLE_COLUMNS,
    judged_template,
)
from benchmarks.search_efficiency.proposals import Proposer, make_proposer, propose
from benchmarks.search_efficiency.raw_samples import judge_raw_samples
from benchmarks.search_efficiency.runner import execute, refresh
from benchmarks.search_efficiency.statistics import (
    Trials,
    best_against_budget,
    bootstrap,
    bound_without_hit,
    evaluations_per_hit,
    lowest_share,
)
from benchmarks.search_efficiency.study import Known, Study, Withheld, known_crystals
from benchmarks.search_efficiency.summary import screened_trials, summarize
from benchmarks.search_efficiency.tables import append_row, read_rows
from nanh2lib.config import DatasetSettings, load_config
from nanh2lib.crystal.expansion import expand
from nanh2lib.errors import InputError
from nanh2lib.pipeline.draws import uniform_draws
from nanh2lib.pipeline.geometric_data import RelaxedCrystal
from nanh2lib.pipeline.model_card import charged_calls
from nanh2lib.pipeline.run import write_json
from nanh2lib.records import RelaxationResult
from nanh2lib.relaxation.settings import RelaxationSettings, RigidSettings

ALPHA = -18.161


def trials(hits, count=300, evaluations=60.0, seeds=1):
    """`count` relaxations of equal cost, the first `hits` of them at -1, the others at 0."""
    energies = np.where(np.arange(count) < hits, -1.0, 0.0)
    order = np.random.default_rng(1).permutation(count)
    return Trials(np.arange(count) % seeds, np.full(count, evaluations), energies[order], np.ones(count, bool))


def test_evaluations_per_hit():
    assert evaluations_per_hit(trials(6), -0.5) == 300 * 60 / 6
    assert evaluations_per_hit(trials(6), -0.5, charged=600) == (300 * 60 + 600) / 6
    assert math.isinf(evaluations_per_hit(trials(0), -0.5))


def test_bound_without_a_hit_is_clopper_pearson():
    p = stats.beta.ppf(0.95, 1, 300)  # upper bound of the rate after 0 of 300
    assert bound_without_hit(trials(0)) == pytest.approx(60 / p)
    assert bound_without_hit(trials(0)) == pytest.approx(60 * 300 / 3, rel=0.01)  # the rule of three


def test_bootstrap_interval_is_that_of_a_binomial_count():
    low, high = bootstrap(lambda s: evaluations_per_hit(s[0], -0.5), [trials(30)], resamples=4000)
    counts = stats.binom.ppf([0.025, 0.975], 300, 0.1)
    assert 18000 / low == pytest.approx(counts[1], abs=1)
    assert 18000 / high == pytest.approx(counts[0], abs=1)


def test_seeds_that_differ_widen_the_interval():
    even = trials(30, seeds=3)
    uneven = Trials(np.sort(even.seeds), even.evaluations, np.where(np.arange(300) < 30, -1.0, 0.0), even.countable)

    def width(which):
        low, high = bootstrap(lambda s: s[0].hits(-0.5) / 300, [which], resamples=1000)
        return high - low

    assert width(uneven) > 2 * width(even)


def test_lowest_share_is_an_order_statistic():
    energies = np.arange(300.0)[::-1]
    assert lowest_share(energies) == 2.0  # the third of 300
    assert lowest_share(energies[:50]) == 250.0  # at least one
    assert lowest_share(np.arange(100.0)) == 0.0


def test_best_against_budget():
    given = Trials(
        np.array([0, 0, 1, 1]), np.array([10.0, 10, 10, 10]), np.array([3.0, 1, 2, 5]), np.ones(4, dtype=bool)
    )
    first, middle, last, beyond = best_against_budget(given, [5, 10, 20, 30])
    assert (middle, last) == (2.5, 1.5)
    assert math.isnan(first)
    assert math.isnan(beyond)


def row(number, energy, *, method="random", **changes):
    base = {
        "method": method, "variant": "default", "held_out": False, "seed": number % 3, "template": "P2_1",
        "hall_number": 6, "units": 16, "sample_id": f"{method}-{number}", "valid_before": False, "evaluations": 50,
        "screening": 0,
        "energy_start": energy + 1.0, "energy_final": energy, "converged": True, "matches_alpha": False,
        "duplicate_of": None, "in_training": "no",
    }  # fmt: skip
    return base | changes


@pytest.fixture
def folder(tmp_path):
    """100 random relaxations 0.10 to 0.199 eV above alpha; 20 geometric ones, five of them low."""
    table = tmp_path / "relaxations.csv"
    for i in range(100):
        append_row(table, RELAXATION_COLUMNS, row(i, ALPHA + 0.1 + 0.001 * i))
    for held_out in (False, True):
        kinds = [{}, {}, {"duplicate_of": "geometric-0"}, {"in_training": "yes"}, {"in_training": "held_out"}]
        for i in range(20):
            changes = kinds[i] if i < 5 else {}
            energy = ALPHA + (0.01 if i < 5 else 0.15)
            append_row(table, RELAXATION_COLUMNS, row(i, energy, method="geometric", held_out=held_out, **changes))
    batch = dict.fromkeys(SAMPLE_COLUMNS, 0) | {"method": "geometric", "variant": "default", "held_out": False}
    batch |= {"template": "P2_1", "drawn": 20, "valid": 10, "valid_at_0.7": 15, "symmetry": 20, "proposed": 20}
    append_row(tmp_path / "samples.csv", SAMPLE_COLUMNS, batch | {"seconds": 2.0, "training_evaluations": 1000})
    write_json(tmp_path / "alpha.json", {"energy_ev_per_fu": ALPHA})
    return tmp_path


def test_summary_counts_what_counts(folder):
    found = summarize(folder, resamples=200)["templates"]["P2_1"]
    mine, held, random = (found[k] for k in ("geometric, default", "geometric held out, default", "random, default"))
    # Neither the duplicate nor what the model has seen; a held-out model has not seen what was held out.
    assert [mine["hits"][k]["hits"] for k in "abc"] == [2, 2, 2]
    assert [held["hits"][k]["hits"] for k in "abc"] == [3, 3, 3]
    assert [random["hits"][k]["hits"] for k in "abc"] == [1, 0, 0]
    assert mine["hits"]["a"]["evaluations_per_hit"] == 20 * 50 / 2
    assert mine["hits"]["a"]["saving"] == pytest.approx(100 * 50 / 1 / 500)
    assert mine["hits_training_charged"]["a"]["evaluations_per_hit"] == (20 * 50 + 1000) / 2
    bound = 50 / (1 - 0.05 ** (1 / 100))
    assert random["hits"]["b"]["evaluations_per_hit_above"] == pytest.approx(bound, abs=0.1)
    assert mine["hits"]["b"]["saving_above"] == pytest.approx(bound / 500, abs=0.01)
    assert mine["samples"]["valid_percent"] == 50.0
    assert mine["samples"]["valid_percent_at_0.7"] == 75.0
    assert mine["enrichment_a"] == pytest.approx((2 / 20) / (1 / 100))
    assert mine["different"] == 19
    assert mine["lowest_mev_above_alpha"] == pytest.approx(10.0)


def test_calls_of_screening_are_charged(folder):
    for i in range(4):
        changes = {"method": "geometric", "variant": "screened", "screening": 7}
        append_row(folder / "relaxations.csv", RELAXATION_COLUMNS, row(i, ALPHA + 0.01, **changes))
    found = summarize(folder, resamples=50)["templates"]["P2_1"]["geometric, screened"]
    assert found["evaluations"] == 4 * (50 + 7)
    assert found["hits"]["a"]["evaluations_per_hit"] == 57
    assert "hits_if_screened" not in found


def test_screening_afterwards_relaxes_the_lowest_of_each_seed_and_charges_a_call_for_all():
    start = np.arange(48.0)[::-1]
    given = Trials(np.arange(48) // 24, np.full(48, 10.0), start - 100.0, np.ones(48, dtype=bool))
    found = screened_trials(given, start, share=1 / 8)
    assert np.flatnonzero(found.countable).tolist() == [21, 22, 23, 45, 46, 47]
    assert found.evaluations.sum() == 48 + 6 * 10
    assert set(found.evaluations) == {1.0, 11.0}


def test_screening_keeps_what_the_judge_finds_lowest():

    template = judged_template("P2_12_12_1")

    def judge(candidates):
        return -torch.arange(len(candidates), dtype=torch.float64)  # the last that it is asked is the lowest

    def rank(batch):
        return torch.arange(len(batch), dtype=torch.float64)

    proposer = Proposer(
        "random", "x", False, uniform_draws, rank=rank, oversample=10, screen=4,
        judge=judge,
    )  # fmt: skip
    batch = propose(proposer, template, 2, 0)
    assert batch.counts["proposed"] == 2
    assert sum(batch.screening) == 8
    alone = propose(dataclasses.replace(proposer, judge=None), template, 8, 0)
    assert torch.equal(batch.units[0].frac_origins, alone.units[7].frac_origins)
    assert torch.equal(batch.units[1].frac_origins, alone.units[6].frac_origins)


def test_withheld_are_those_below_the_limit_and_their_equals():
    units = uniform_draws(judged_template("P2_12_12_1"), 3, 0)
    crystals = []
    for name, row, energy in (("low", 0, -18.2), ("high", 0, -18.0), ("other", 1, -18.0)):
        structure = expand(units[row])[0]
        group = units.space_group_number
        result = RelaxationResult(structure, "rigid_fixed", "chgnet", 0.0, energy, 1, True, group, group)
        crystals.append(RelaxedCrystal(name, result, units[row], structure))
    withheld = Withheld(crystals, -18.1)
    assert [name in withheld for name in ("low", "high", "other", "unknown")] == [True, True, False, False]


def test_rows_of_a_batch_that_was_cut_short_wait(tmp_path):
    batch = dict.fromkeys(SAMPLE_COLUMNS, 0) | {"method": "random", "variant": "default", "template": "P2_1"}
    batch |= {"proposed": 2, "seconds": 1.0}
    for number in (0, 1):
        append_row(tmp_path / "samples.csv", SAMPLE_COLUMNS, batch | {"batch": number})

    def add(identity):
        changes = {"sample_id": f"random-default-P2_1-s0-b{identity}", "seed": 0}
        append_row(tmp_path / "relaxations.csv", RELAXATION_COLUMNS, row(0, ALPHA, **changes))

    for identity in ("000-000", "001-000", "000-001"):
        add(identity)
    assert settle(tmp_path) == (2, 1)
    waiting = read_rows(tmp_path / "unfinished.csv", RELAXATION_COLUMNS)
    assert waiting["sample_id"].tolist() == ["random-default-P2_1-s0-b001-000"]
    before = (tmp_path / "relaxations.csv").read_bytes()
    assert settle(tmp_path) == (2, 1)
    assert (tmp_path / "relaxations.csv").read_bytes() == before
    add("001-001")
    assert settle(tmp_path) == (4, 0)


def test_raw_samples_are_judged_and_a_row_replaced(tmp_path):
    proposer = make_proposer("random", "default", None, load_config("smoke"))
    for count in (2, 3):
        row = judge_raw_samples(tmp_path, proposer, "C2", count, 0)
    assert (row["drawn"], row["method"], row["valid"]) == (3, "random", 0)
    (kept,) = json.loads((tmp_path / "validity.json").read_text())["rows"]
    assert kept == row


def test_what_training_cost_is_read_from_the_card(tmp_path):
    models = files("nanh2lib") / "data" / "models"
    assert charged_calls(models / "geometric_heldout.md") == 33301
    (tmp_path / "other.md").write_text("# A card without it\n")
    for name in ("other.md", "none.md"):
        with pytest.raises(InputError, match="energy calls"):
            charged_calls(tmp_path / name)


def test_random_saves_nothing_against_itself(folder):
    random = summarize(folder, resamples=200)["templates"]["P2_1"]["random, default"]["hits"]["a"]
    assert random["saving"] == 1.0
    assert random["saving_interval"][0] <= 1.0


def test_a_torn_line_is_cut_off(tmp_path):
    path = tmp_path / "relaxations.csv"
    append_row(path, RELAXATION_COLUMNS, row(0, -18.0))
    with path.open("ab") as stream:
        stream.write(b"random,default,0,1,P2_")
    assert len(read_rows(path, RELAXATION_COLUMNS)) == 1
    append_row(path, RELAXATION_COLUMNS, row(1, -18.1))
    assert read_rows(path, RELAXATION_COLUMNS)["sample_id"].tolist() == ["random-0", "random-1"]


def test_foreign_tables_and_rows_are_refused(tmp_path):
    path = tmp_path / "relaxations.csv"
    with pytest.raises(InputError, match="converged"):
        append_row(path, RELAXATION_COLUMNS, {k: v for k, v in row(0, -18.0).items() if k != "converged"})
    path.write_text("a,b\n1,2\n")
    with pytest.raises(InputError, match="expected"):
        read_rows(path, RELAXATION_COLUMNS)


def test_judged_templates_are_general_in_the_alpha_cell():
    units = {name: judged_template(name).n_units for name in JUDGED}
    assert units == {"P2_1": 16, "P2_12_12_1": 8, "P-1": 16, "C2": 8, "P2_1/c": 8}
    with pytest.raises(InputError, match="choose one of"):
        judged_template("Pnma")


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """Real relaxations, a few evaluations each."""
    short = RelaxationSettings(potential="chgnet", rigid=RigidSettings(cell="fixed", max_evaluations=3), atoms=None)
    config = load_config("smoke").model_copy(update={"dataset": DatasetSettings(relaxed_fixed=short)})
    folder = tmp_path_factory.mktemp("study")
    return Study.open(folder / "results", folder / "work", config, short)


def test_a_real_run_goes_on_where_it_was(study, monkeypatch):
    config, template = load_config("smoke"), judged_template("C2")
    proposer, known = make_proposer("random", "default", None, config), known_crystals(study, None)
    assert known.alpha.energy_final == pytest.approx(ALPHA, abs=0.05)
    run = {"seed": 0, "known": known, "progress": False}
    assert execute(study, proposer, "C2", template, count=1, **run) == 1
    assert execute(study, proposer, "C2", template, count=1, **run) == 0
    frame = read_rows(study.relaxations, RELAXATION_COLUMNS)
    assert frame["sample_id"].tolist() == ["random-default-C2-s0-b000-000"]
    frame = read_rows(study.relaxations, RELAXATION_COLUMNS)
    assert frame["evaluations"].tolist() == [3]
    assert (frame["energy_final"] < frame["energy_start"]).all()
    assert study.run.store.get(frame["sample_id"][0]).relaxed_fixed is not None
    write_json(study.results / "alpha.json", {"energy_ev_per_fu": known.alpha.energy_final})
    summary = summarize(study.results, resamples=50)["templates"]["C2"]["random, default"]
    assert summary["relaxations"] == 1
    assert summary["samples"]["symmetry_percent"] <= 100.0
    before = study.relaxations.read_bytes()
    assert refresh(study, known) == 0
    assert study.relaxations.read_bytes() == before
    result = study.run.store.get(frame["sample_id"][0]).relaxed_fixed
    known.training.add("seen", result.structure, result.energy_final)
    assert refresh(study, known, ["random-screened", "random-default-P-1"]) == 0
    assert refresh(study, known, ["random-default-C2-s0"]) == 1
    assert read_rows(study.relaxations, RELAXATION_COLUMNS)["in_training"].tolist() == ["yes"]
    assert (
        Known(known.alpha, known.training, frozenset({"seen"})).in_training(
            known.training.describe(result.structure), result.energy_final
        )
        == "held_out"
    )
    whole = study.relaxations.read_text().splitlines()
    study.relaxations.write_text(whole[0] + "\n")  # a kill came between the crystal and its row
    with monkeypatch.context() as patch:
        patch.setattr("benchmarks.search_efficiency.runner.relax_many", lambda missing, *_, **__: missing and 1 / 0)
        assert execute(study, proposer, "C2", template, count=1, **run) == 1
    assert study.relaxations.read_text().splitlines() == whole
    other = make_proposer("random", "default", None, config, changes={"anything": 1})
    with pytest.raises(InputError, match="begun with other settings"):
        execute(study, other, "C2", template, count=1, **run)


def test_the_best_finds_are_confirmed_once_beside_alpha(study):
    assert confirm(study, 1, progress=False) == 2
    assert confirm(study, 1, progress=False) == 0
    found = read_confirmation(study.results, read_rows(study.relaxations, RELAXATION_COLUMNS))
    assert found is not None
    assert found.rows["sample_id"].tolist() == ["random-default-C2-s0-b000-000"]
    assert found.rows["evaluations"].tolist() == [3]
    ((key, numbers),) = found.numbers({"b": 0.02})
    assert key == ("C2", "random", "default", 0)
    assert numbers["lowest_mev_above_alpha"] == pytest.approx(
        1e3 * (found.rows["energy_final"][found.rows.index[0]] - found.alpha), abs=0.05
    )
    (told,) = summarize(study.results, resamples=5)["templates"]["C2"].values()
    assert told["confirmed"] == {"potential": "sevennet-0", **dict(found.numbers({"b": 0.02, "c": 0.05}))[key]}


def test_a_find_that_broke_has_its_reason_and_no_energy():
    judged = {"method": "random", "variant": "default", "held_out": 0, "template": "C2", "energy_final": -18.0}
    row = confirmed_row("one", judged, "SCF did not\n converge")
    assert (row["energy_final"], row["flags"]) == (None, "SCF did not converge")
    rows = pd.DataFrame([{**row, "energy_final": float("nan")}, {**row, "energy_final": -18.1}])
    ((_, numbers),) = Confirmation(-18.2, rows).numbers({"b": 0.02})
    assert (numbers["finds"], numbers["unusable"], numbers["lowest_mev_above_alpha"]) == (2, 1, 100.0)


def test_best_finds_are_different_and_lowest():
    rows = pd.DataFrame(
        {
            "template": "C2", "method": "random", "variant": "default", "held_out": 0,
            "sample_id": list("abcde"), "energy_final": [-1.0, -3.0, -2.0, -4.0, float("nan")],
            "duplicate_of": ["", "", "", "b", ""],
        }
    )  # fmt: skip
    assert best_finds(rows, 2)["sample_id"].tolist() == ["b", "c"]


def test_another_relaxer_is_refused(study):
    with pytest.raises(InputError, match="another relaxer"):
        Study.open(study.results, study.run.directory, study.run.config)


def test_proposals_follow_their_seed_and_pass():
    proposer = make_proposer("random", "default", None, load_config("smoke"))
    first, again, other = (propose(proposer, judged_template("P2_1/c"), 3, seed) for seed in (1, 1, 2))
    assert first.counts["drawn"] == 3
    assert len(first.units) >= 2
    assert all((a.frac_origins == b.frac_origins).all() for a, b in zip(first.units, again.units, strict=True))
    assert not (first.units[0].frac_origins == other.units[0].frac_origins).all()


def test_methods_with_models_ask_for_them():
    config = load_config("smoke")
    for method in ("paper", "paper_guided", "geometric", "geometric_heldout"):
        with pytest.raises(InputError, match="needs --models"):
            make_proposer(method, "default", None, config)


def test_the_committed_summary_follows_from_the_committed_tables():
    committed = json.loads((RESULTS / "summary.json").read_text())
    assert summarize(RESULTS, committed["resamples"]) == committed

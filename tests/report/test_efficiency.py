"""The study of search efficiency as pages show it: read from its files, never estimated again."""

import json
import math
import re

import numpy as np
import pytest

from benchmarks.search_efficiency.confirming import best_finds
from benchmarks.search_efficiency.judged import RELAXATION_COLUMNS, RESULTS, SAMPLE_COLUMNS
from benchmarks.search_efficiency.summary import BUDGETS, write_summary
from benchmarks.search_efficiency.tables import append_row
from nanh2lib.errors import InputError
from nanh2lib.pipeline.run import write_json
from nanh2lib.report import plots
from nanh2lib.report.efficiency import (
    best_so_far,
    budget_data,
    calls_of,
    counted_label,
    energy_data,
    hit_costs,
    method_label,
    read_study,
    savings,
    validity_data,
    without_intervals,
)
from nanh2lib.report.efficiency_tables import (
    CHANGED,
    ablation_frame,
    alpha_frame,
    confirmed_frame,
    easy_frame,
    goal_frame,
    repeats_frame,
    screened_frame,
    taken_apart_frame,
)

ALPHA = -18.161
MODEL_HELD = "geometric held out, screened"
RANDOM, MODEL, HELD = "random (60 in 3 seeds)", "geometric, all parts (20 in 2 seeds)", "geometric, all parts, held out"


def add(
    folder, number, meV, *, seeds, method="random", variant="default", held_out=False, energy=True,
    template="P2_1/c", alpha=False,
):  # fmt: skip
    name = f"{method}-{variant}-{held_out}-{template}-{number}"
    low = ALPHA + meV / 1000
    row = {
        "method": method, "variant": variant, "held_out": held_out, "seed": number % seeds, "template": template,
        "hall_number": 81, "units": 8, "sample_id": name, "valid_before": False, "evaluations": 40 + number % 7,
        "screening": number % 3,
        "energy_start": low + 2.0, "energy_final": low if energy else None, "converged": energy,
        "matches_alpha": alpha, "duplicate_of": None, "in_training": "no",
    }  # fmt: skip
    append_row(folder / "relaxations.csv", RELAXATION_COLUMNS, row)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Random relaxations from 60 meV up, one of them failed; a model whose samples reach 9 meV; a strange method."""
    folder = tmp_path_factory.mktemp("efficiency")
    for i in range(60):
        add(folder, i, 60.0 + 2 * ((37 * i) % 60), seeds=3, energy=i != 7)
    for i in range(20):
        add(folder, i, 9.0 + 5 * i, seeds=2, method="geometric")
        add(folder, i, 200.0 + i, seeds=2, method="geometric", held_out=True)
        add(folder, i, 200.0 + i, seeds=1, method="random", variant="odd")
    batch = dict.fromkeys(SAMPLE_COLUMNS, 0) | {"variant": "default", "held_out": False, "template": "P2_1/c"}
    batch |= {"drawn": 50, "valid": 10, "valid_at_0.7": 25, "symmetry": 50, "proposed": 20, "seconds": 2.0}
    for method, calls in (("random", 0), ("geometric", 1000)):
        append_row(folder / "samples.csv", SAMPLE_COLUMNS, batch | {"method": method, "training_evaluations": calls})
    parts = {"oversample": 10, "downhill": {"steps": 120}, "guide": "x0", "steering": False}
    write_json(folder / "variants.json", {"random-default": {"oversample": 1}, "geometric-default": parts})
    write_json(folder / "alpha.json", {"energy_ev_per_fu": ALPHA})
    write_summary(folder, resamples=100)
    return folder


@pytest.fixture(scope="module")
def study(folder):
    return read_study(folder)


def test_methods_come_in_the_order_of_figures_and_held_out_last(study):
    assert [method_label(name) for name in study.methods("P2_1/c")] == [
        "random", "geometric, all parts", "random, odd", "geometric, all parts, held out",
    ]  # fmt: skip
    with pytest.raises(InputError, match="not judged; choose one of P2_1/c"):
        study.methods("Fddd")
    assert counted_label("random, default", {"relaxations": 5, "seeds": [0]}) == "random (5 in 1 seed)"


def test_rows_of_a_method_are_its_own(study):
    for name, numbers in study.methods("P2_1/c").items():
        rows = study.rows("P2_1/c", name)
        assert len(rows) == numbers["relaxations"]
        assert calls_of(rows).sum() == numbers["evaluations"]


def test_costs_and_bounds_are_those_of_the_summary(study):
    intervals, bounds = hit_costs(study)
    numbers = study.methods("P2_1/c")["geometric, default"]["hits"]["b"]
    value, low, high = intervals["P2_1/c"][MODEL]["b"]
    assert value == numbers["evaluations_per_hit"]
    assert low <= value <= high
    assert ("P2_1/c", RANDOM, "c") in bounds
    limit, low, high = intervals["P2_1/c"][RANDOM]["c"]
    assert limit == low == study.methods("P2_1/c")["random, default"]["hits"]["c"]["evaluations_per_hit_above"]
    assert math.isinf(high)
    plots.interval_panels(intervals, dict.fromkeys("abc", "Evaluations per hit"), bounds=bounds)


def test_savings_with_and_without_the_charge_for_training(study):
    intervals, bounds = savings(study, "a")
    cells = intervals["P2_1/c"][MODEL]
    assert cells["training"][0] < cells["search"][0]
    assert bounds == set()
    assert intervals["P2_1/c"][RANDOM]["search"][0] == 1.0  # its interval is the noise of the comparison
    without = next(cells for name, cells in intervals["P2_1/c"].items() if name.startswith(HELD))
    assert without == {}  # no hit, nothing saved: shown as such
    _, bounds = savings(study, "b")
    assert ("P2_1/c", MODEL, "search") in bounds
    plots.interval_panels(intervals, {"search": "Saving", "training": "Saving"}, reference=1.0)


def test_best_energy_agrees_with_the_summary_at_its_budgets(study):
    for name, numbers in study.methods("P2_1/c").items():
        rows = study.rows("P2_1/c", name)
        _, best = best_so_far(rows, BUDGETS)
        spent = min(calls_of(part).sum() for _, part in rows.groupby("seed"))
        for k, budget in enumerate(BUDGETS):
            known = numbers["best_mev_above_alpha_by_budget"][str(int(budget))]
            if budget <= spent:
                assert 1e3 * (best[:, k].mean() - ALPHA) == pytest.approx(known, abs=1e-3)
            else:
                assert known is None


def test_curves_fall_and_begin_with_what_training_cost(study):
    plain, charged = budget_data(study), budget_data(study, charged=True)
    for x, middle, low, high in plain["P2_1/c"].values():
        assert np.diff(x).min() > 0
        assert np.diff(middle).max() <= 0
        assert ((low <= middle) & (middle <= high)).all()
    assert charged["P2_1/c"][MODEL][0] - plain["P2_1/c"][MODEL][0] == pytest.approx(1000.0)
    assert charged["P2_1/c"][RANDOM][0] == pytest.approx(plain["P2_1/c"][RANDOM][0])
    plots.budget_curves(plain)


def test_a_seed_that_never_ends_has_no_curve(study):
    rows = study.rows("P2_1/c", "random, default").assign(energy_final=np.nan)
    assert best_so_far(rows) is None
    assert best_so_far(rows.iloc[:0]) is None


def test_energies_and_validity(study):
    energies = energy_data(study)["P2_1/c"]
    assert len(energies[RANDOM]["end"]) == 59  # one failed
    assert energies[MODEL]["end"].min() == pytest.approx(9.0)
    assert energies[MODEL]["start"].min() == pytest.approx(2009.0)
    plots.energy_boxes({"P2_1/c": energies}, {"start": "Start (meV)", "end": "End (meV)"}, log=["start"])
    bars = validity_data(study)
    row = "P2_1/c: geometric, all parts (50 drawn)"
    assert (bars["full limits"][row], bars["limits × 0.7"][row]) == (20.0, 50.0)
    assert len(bars["full limits"]) == 2


def test_ablation_table_names_parts_from_the_committed_settings(study):
    frame = ablation_frame(study, "P2_1/c", "b")
    model, random = frame.loc["geometric, all parts"], frame.loc["random"]
    assert list(model[["proposed by", "guided", "downhill", "best of"]]) == ["geometric model", "x0", "yes", "10"]
    assert list(random[["proposed by", "guided", "downhill", "best of"]]) == ["uniform draws", "no", "no", "1"]
    assert random["evaluations per hit (b)"].startswith("> ")
    assert random["saving, training charged"] == "–"
    assert re.fullmatch(r"> [\d.]+", model["saving"])
    assert float(model["saving, training charged"][2:]) < float(model["saving"][2:])
    assert model["hits a / b / c"] == "11 / 3 / 9"
    assert model["training calls"] == "1000"
    assert re.fullmatch(r"\d+ \(\d+ to (\d+|∞)\)", model["evaluations per hit (b)"])


def test_a_goal_counts_as_reached_by_value_and_lower_end(study):
    names = ["geometric, default", "geometric held out, default", "geometric, guided"]
    frame = goal_frame(study, names)
    assert list(frame.index) == ["P2_1/c: geometric, all parts", "P2_1/c: geometric, all parts, held out"]
    mine = frame.iloc[0]
    value, low, _ = savings(study, "a")[0]["P2_1/c"][MODEL]["search"]
    assert mine["reached (a)"] == ("yes" if value >= 5 and low > 2 else "no")
    assert mine["reached (b)"] == "–"  # random search has no hit: no ratio
    assert set(frame.iloc[1][["reached (a)", "reached (b)"]]) == {"no"}
    assert goal_frame(study, names, goal=value, floor=0.0).iloc[0]["reached (a)"] == ("yes" if low > 0 else "no")
    assert goal_frame(study, names, goal=value + 0.01, floor=0.0).iloc[0]["reached (a)"] == "no"


def test_another_resampling_changes_intervals_only(folder, study, tmp_path):
    for name in ("relaxations.csv", "samples.csv", "alpha.json"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    again = write_summary(tmp_path, resamples=20)
    assert again != study.summary
    assert without_intervals(again) == without_intervals(study.summary)
    changed = json.loads(json.dumps(study.summary))
    changed["templates"]["P2_1/c"]["random, default"]["hits"]["a"]["hits"] += 1
    assert without_intervals(changed) != without_intervals(study.summary)


def test_files_that_do_not_belong_together_are_refused(folder, tmp_path):
    with pytest.raises(InputError, match=r"no complete results.*summary\.json"):
        read_study(tmp_path)
    for path in folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    add(tmp_path, 99, 70.0, seeds=3)
    with pytest.raises(InputError, match=r"^[^()]*61 rows of random, default on P2_1/c, summary.json says 60"):
        read_study(tmp_path)
    (tmp_path / "summary.json").write_text("[1, 2]")
    with pytest.raises(InputError, match="no complete results"):
        read_study(tmp_path)


def test_the_committed_results_can_be_drawn():
    if not (RESULTS / "summary.json").exists():
        pytest.skip("no committed results")
    study = read_study()
    intervals, bounds = hit_costs(study)
    plots.interval_panels(intervals, dict.fromkeys("abc", "Evaluations per hit"), bounds=bounds)
    plots.energy_boxes(energy_data(study), {"start": "Start (meV)", "end": "End (meV)"}, log=["start"])
    assert all(len(ablation_frame(study, template)) for template in study.templates)


def test_low_finds_are_repeats_taught_ones_and_hits():
    frame = repeats_frame(read_study()).astype(int)
    parts = frame[["found before", "in its training set", "hits"]]
    assert (parts >= 0).all(axis=None)
    assert (parts.sum(axis=1) == frame["low finds"]).all()
    assert (frame["low finds"] <= frame["relaxations"]).all()
    random = frame.loc["P2_1/c: random"]
    assert random["low finds"] == random["relaxations"] // 100


def test_confirmed_finds_are_told_with_both_judges():
    study = read_study()
    frame = confirmed_frame(study)
    named = [name for template in study.templates for name in study.methods(template).values() if "confirmed" in name]
    assert len(frame) == len(named) > 0
    assert (frame["finds"].astype(int) <= 30).all()
    assert frame["rank correlation"].astype(float).between(-1, 1).all()


@pytest.fixture(scope="module")
def wide(tmp_path_factory):
    """Alpha found on C2 by random search and by a model, on an easy template, and a model taken apart."""
    folder = tmp_path_factory.mktemp("wide")
    model = {"method": "geometric", "held_out": True, "seeds": 1}
    for i in range(40):
        add(folder, i, 0.0 if i < 2 else 50.0 + i, seeds=1, template="C2", alpha=i < 2)
    for i in range(10):
        add(folder, i, 0.0 if i < 5 else 90.0, **model, template="C2", variant="screened", alpha=i < 5)
        add(folder, i, 0.0 if i < 9 else 90.0, seeds=1, template="Fddd", alpha=i < 9)
        for variant in ("guide-none", "part-no-torus"):
            add(folder, i, 40.0 + i, **model, template="C2", variant=variant)
    add(folder, 0, 0.0, seeds=1, method="geometric", template="C2", variant="screened", alpha=True)
    batch = dict.fromkeys(SAMPLE_COLUMNS, 0) | {"drawn": 10, "valid": 1, "valid_at_0.7": 3, "proposed": 10}
    places = [
        ("random", "default", False, "C2"), ("geometric", "screened", True, "C2"),
        ("random", "default", False, "Fddd"), ("geometric", "guide-none", True, "C2"),
        ("geometric", "part-no-torus", True, "C2"), ("geometric", "screened", False, "C2"),
    ]  # fmt: skip
    for method, variant, held_out, template in places:
        told = {"method": method, "variant": variant, "held_out": held_out, "template": template}
        append_row(folder / "samples.csv", SAMPLE_COLUMNS, batch | told)
    write_json(folder / "variants.json", {})
    write_json(folder / "alpha.json", {"energy_ev_per_fu": ALPHA})
    write_summary(folder, resamples=50)
    return read_study(folder)


def test_easy_templates_and_models_taken_apart_stand_apart(wide):
    assert wide.templates == ("C2",)
    assert list(wide.methods("C2")) == ["random, default", "geometric, screened", "geometric held out, screened"]
    easy = easy_frame(wide)
    assert list(easy.index) == ["Fddd: random"]
    assert easy.loc["Fddd: random", "ended in α"] == "9"
    apart = taken_apart_frame(wide, "C2")
    assert list(apart.index) == ["random search", CHANGED["part-no-torus"], CHANGED["guide-none"]]
    row = apart.loc[CHANGED["guide-none"]]
    assert list(row[["relaxations", "valid (%)", "at 0.7 of limits (%)", "hits (c)"]]) == ["10", "10", "30", "10"]
    assert (float(row["median before"]), float(row["lowest"])) == (2044.0, 40.0)
    with pytest.raises(InputError, match="choose one of Fddd"):
        wide.methods("C2", "easy")
    assert best_finds(wide.relaxations.fillna({"duplicate_of": ""}))["variant"].isin(["default", "screened"]).all()
    assert set(best_finds(wide.relaxations.fillna({"duplicate_of": ""}))["template"]) == {"C2"}


def test_alpha_is_counted_as_often_as_it_is_found_by_those_who_were_not_shown_it(wide):
    frame = alpha_frame(wide)
    assert list(frame.index) == ["C2: random", "C2: geometric, screened, held out"]
    assert list(frame["ended in α"]) == ["2", "5"]
    random, model = (calls_of(wide.rows("C2", f"{name}")).sum() for name in ("random, default", MODEL_HELD))
    assert frame.iloc[0]["evaluations for each"].startswith(f"{random / 2:.0f} (")
    assert frame.iloc[1]["saving"].startswith(f"{(random / 2) / (model / 5):.1f} (")
    assert wide.methods("C2")[MODEL_HELD]["hits"]["a"]["hits"] == 5


def test_what_screening_would_have_saved_is_asked_of_rows_that_were_not_screened():
    study = read_study()
    frame = screened_frame(study)
    asked = [
        f"{template}: {counted_label(name, numbers)}"
        for template in study.templates
        for name, numbers in study.methods(template).items()
        if numbers["screening"] == 0 and name != "random, default"
    ]
    assert list(frame.index) == asked != []


def test_the_committed_model_is_taken_apart_by_known_names():
    study = read_study()
    for template in study.summary["taken_apart"]:
        assert len(taken_apart_frame(study, template)) == 1 + len(study.methods(template, "taken_apart"))
    assert len(easy_frame(study)) == sum(len(rows) for rows in study.summary["easy"].values())
    assert not (easy_frame(study) == "-0").any(axis=None)

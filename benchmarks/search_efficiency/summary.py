"""summary.json from relaxations.csv, samples.csv and confirmed.csv, nothing else."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from benchmarks.search_efficiency.confirming import POTENTIAL, read_confirmation
from benchmarks.search_efficiency.judged import (
    EASY,
    GROUP,
    HOLDS_ALPHA,
    RELAXATION_COLUMNS,
    SAMPLE_COLUMNS,
    is_short,
)
from benchmarks.search_efficiency.statistics import (
    RESAMPLES,
    Trials,
    best_against_budget,
    bootstrap,
    bound_without_hit,
    evaluations_per_hit,
    lowest_share,
)
from benchmarks.search_efficiency.tables import read_rows
from nanh2lib.files import write_atomically
from nanh2lib.pipeline.run import read_json

LEVELS = {"b": 0.020, "c": 0.050}
"""eV per formula unit above alpha; level a is the lowest 1 % of the random relaxations."""
BUDGETS = tuple(float(n) for n in (500, 1000, 2000, 5000, 10000, 20000, 50000))
SCREENED_SHARE = 1 / 8
"""Of proposals that are relaxed after one call each."""
FloatArray = NDArray[np.float64]
Level = Callable[[Trials | None], float]
"""Random relaxations -> energy of a level, eV per formula unit."""


def trials_of(frame: pd.DataFrame, *, held_out: bool) -> Trials:
    """Trials of rows; finds of the training set do not count (for held-out models: of what they have seen)."""
    seen = ("yes",) if held_out else ("yes", "held_out")
    energies = frame["energy_final"].to_numpy(dtype=np.float64)
    countable = (frame["duplicate_of"] == "").to_numpy() & ~frame["in_training"].isin(seen).to_numpy()
    return Trials(
        frame["seed"].to_numpy(dtype=np.int64),
        (frame["evaluations"] + frame["screening"]).to_numpy(dtype=np.float64),
        np.where(np.isfinite(energies), energies, np.inf),
        countable.astype(bool),
    )


def screened_trials(trials: Trials, start: FloatArray, share: float = SCREENED_SHARE) -> Trials:
    """What the same proposals would have cost if only the lowest share of each seed's had been relaxed.

    Parameters
    ----------
    trials : Trials
    start : ndarray, shape (N,)
        Energy of each proposal before its relaxation: one call, which is charged beside those of the relaxation.
    share : float
    """
    chosen = np.zeros(len(trials), dtype=bool)
    for seed in np.unique(trials.seeds):
        rows = np.flatnonzero(trials.seeds == seed)
        order = np.argsort(np.where(np.isfinite(start[rows]), start[rows], np.inf), kind="stable")
        chosen[rows[order[: max(1, round(share * len(rows)))]]] = True
    evaluations = 1.0 + np.where(chosen, trials.evaluations, 0.0)
    return Trials(trials.seeds, evaluations, trials.energies, trials.countable & chosen)


def level_of(name: str, alpha: float) -> Level:
    """Energy of a level, given the random relaxations; NaN for level a without them."""

    def level(random: Trials | None) -> float:
        if name != "a":
            return alpha + LEVELS[name]
        return float("nan") if random is None or len(random) == 0 else lowest_share(random.energies)

    return level


def hit_numbers(trials: Trials, random: Trials | None, level_at: Level, charged: float, n: int) -> dict[str, Any]:
    """Hits of one level, evaluations per hit with interval, and the ratio to random search."""
    level = level_at(random)
    if math.isnan(level):
        return {"hits": None}
    per_hit = evaluations_per_hit(trials, level, charged)
    result: dict[str, Any] = {"hits": trials.hits(level), "level_ev_per_fu": round(level, 6)}
    if math.isinf(per_hit):
        result["evaluations_per_hit_above"] = round(bound_without_hit(trials, charged), 1)
    else:
        found = bootstrap(lambda sets: evaluations_per_hit(sets[0], level, charged), [trials], resamples=n)
        result["evaluations_per_hit"] = round(per_hit, 1)
        result["interval"] = [_number(value) for value in found]
    if random is not None and len(random):
        result |= _ratio(trials, random, level_at, charged, n)
    return result


def alpha_numbers(rows: pd.DataFrame, random: pd.DataFrame, n: int) -> dict[str, Any]:
    """How often alpha itself was found, repeats included, evaluations per find, and the ratio to random search.

    A hit counts each structure once, so where alpha is within reach, hits run out; this number does not.
    """

    def finding(frame: pd.DataFrame) -> Trials:
        found = frame["matches_alpha"].astype(bool).to_numpy()
        all_ones = np.ones(len(frame), dtype=bool)
        return replace(trials_of(frame, held_out=True), energies=np.where(found, 0.0, np.inf), countable=all_ones)

    result = hit_numbers(finding(rows), finding(random) if len(random) else None, lambda _: 0.0, 0.0, n)
    result["found"] = result.pop("hits")
    del result["level_ev_per_fu"]
    return result


def _ratio(trials: Trials, random: Trials, level_at: Level, charged: float, n: int) -> dict[str, Any]:
    """Random search's evaluations per hit divided by the method's; the level is resampled with the random set."""

    def ratio(sets: list[Trials] | Any) -> float:
        level = level_at(sets[1])
        mine, theirs = evaluations_per_hit(sets[0], level, charged), evaluations_per_hit(sets[1], level)
        return 0.0 if math.isinf(mine) else theirs / mine

    level = level_at(random)
    if trials.hits(level) == 0:
        return {}
    if random.hits(level) == 0:
        return {"saving_above": round(bound_without_hit(random) / evaluations_per_hit(trials, level, charged), 2)}
    found = bootstrap(ratio, [trials, random], resamples=n)
    return {"saving": _number(ratio([trials, random])), "saving_interval": [_number(value) for value in found]}


def _number(value: float) -> float | None:
    """JSON knows no infinity: None."""
    return round(value, 3) if math.isfinite(value) else None


def method_summary(
    rows: pd.DataFrame, samples: pd.DataFrame, random: pd.DataFrame, template: str, alpha: float, resamples: int
) -> dict[str, Any]:
    """One method and variant on one template."""
    held_out = bool(rows["held_out"].iloc[0])
    trials = trials_of(rows, held_out=held_out)
    base = trials_of(random, held_out=held_out) if len(random) else None
    charged = float(samples["training_evaluations"].max()) if len(samples) else 0.0
    levels = {name: level_of(name, alpha) for name in ("a", *LEVELS)}
    usable = np.isfinite(trials.energies)
    result: dict[str, Any] = {
        "relaxations": len(rows),
        "seeds": sorted({int(seed) for seed in rows["seed"]}),
        "evaluations": int(trials.evaluations.sum()),
        "screening": int(rows["screening"].sum()),
        "training_evaluations": int(charged),
        "converged": int(rows["converged"].sum()),
        "failed": int((~usable).sum()),
        "different": int((rows["duplicate_of"] == "").sum()),
        "in_training": int((rows["in_training"] != "no").sum()),
        "alpha_found": int(rows["matches_alpha"].sum()),
        "lowest_mev_above_alpha": _number(1e3 * (float(trials.energies.min()) - alpha)),
        "median_mev_above_alpha": _number(1e3 * (float(np.median(trials.energies)) - alpha)),
        "best_mev_above_alpha_by_budget": {
            str(int(budget)): _number(1e3 * (energy - alpha))
            for budget, energy in zip(BUDGETS, best_against_budget(trials, BUDGETS), strict=True)
        },
        "hits": {name: hit_numbers(trials, base, level, 0.0, resamples) for name, level in levels.items()},
    }
    if not rows["screening"].any():
        fewer = screened_trials(trials, rows["energy_start"].to_numpy(dtype=np.float64))
        result["hits_if_screened"] = {
            name: hit_numbers(fewer, base, level, 0.0, resamples) for name, level in levels.items()
        }
    if charged:
        result["hits_training_charged"] = {
            name: hit_numbers(trials, base, level, charged, resamples) for name, level in levels.items()
        }
    if base is not None and len(base):
        lowest = levels["a"](base)
        own, theirs = trials.hits(lowest) / len(trials), base.hits(lowest)
        result["enrichment_a"] = _number(own / (theirs / len(base))) if theirs else None
    if len(samples):
        drawn = int(samples["drawn"].sum())
        result["samples"] = {
            "drawn": drawn,
            "valid_percent": _number(100 * samples["valid"].sum() / max(drawn, 1)),
            "valid_percent_at_0.7": _number(100 * samples["valid_at_0.7"].sum() / max(drawn, 1)),
            "symmetry_percent": _number(100 * samples["symmetry"].sum() / max(drawn, 1)),
            "cpu_seconds_per_proposal": _number(samples["seconds"].sum() / max(int(samples["proposed"].sum()), 1)),
        }
    result["can_hold_alpha"] = template in HOLDS_ALPHA
    if template in HOLDS_ALPHA:
        result["alpha"] = alpha_numbers(rows, random, resamples)
    return result


def method_name(method: str, variant: str, held_out: bool) -> str:
    """Key of a method and variant in the summary."""
    return f"{method}{' held out' if held_out else ''}, {variant}"


def _section(template: str, variant: str) -> str:
    """Where numbers belong: what is compared, the easy end, or a model with one part changed."""
    if not is_short(template, variant):
        return "templates"
    return "easy" if template in EASY else "taken_apart"


def summarize(folder: Path, resamples: int = RESAMPLES) -> dict[str, Any]:
    """Everything that is quoted of the study, from its tables alone.

    Parameters
    ----------
    folder : Path
        With relaxations.csv, samples.csv and alpha.json, and confirmed.csv if anything is confirmed.
    resamples : int
        Of each bootstrap.
    """
    rows = read_rows(folder / "relaxations.csv", RELAXATION_COLUMNS)
    samples = read_rows(folder / "samples.csv", SAMPLE_COLUMNS)
    alpha = float(read_json(folder / "alpha.json")["energy_ev_per_fu"])
    sections: dict[str, dict[str, Any]] = {"templates": {}, "easy": {}, "taken_apart": {}}
    for template, part in rows.groupby("template", sort=True):
        random = part[(part["method"] == "random") & (part["variant"] == "default")]
        for key, mine in part.groupby(GROUP, sort=True):
            method, variant, held_out = key
            drawn = samples[(samples["template"] == template) & (samples[GROUP] == list(key)).all(axis=1)]
            found = method_summary(mine, drawn, random, str(template), alpha, resamples)
            section = sections[_section(str(template), str(variant))]
            section.setdefault(str(template), {})[method_name(method, variant, bool(held_out))] = found
    templates = sections["templates"]
    confirmation = read_confirmation(folder, rows)
    if confirmation is not None:
        for (template, method, variant, held_out), numbers in confirmation.numbers(LEVELS):
            name = method_name(method, variant, bool(held_out))
            if name in templates.get(template, {}):
                templates[template][name]["confirmed"] = {"potential": POTENTIAL, **numbers}
    return {
        "alpha_ev_per_fu": round(alpha, 6),
        "levels": {"a": "lowest 1 % of random", **{k: f"{1e3 * v:.0f} meV above alpha" for k, v in LEVELS.items()}},
        "resamples": resamples,
        "relaxations": len(rows),
        **sections,
    }


def write_summary(folder: Path, resamples: int = RESAMPLES) -> dict[str, Any]:
    """Compute and write summary.json."""
    import json

    summary = summarize(folder, resamples)
    text = json.dumps(summary, indent=1, sort_keys=True, allow_nan=False) + "\n"
    write_atomically(folder / "summary.json", text.encode())
    return summary

"""summary.json from the tables of the study, the shipped dataset and the search-efficiency study, nothing else."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.published_tables.relaxations import COMMAND
from benchmarks.published_tables.searching import read_searches
from benchmarks.published_tables.settings import BETTER, POTENTIALS, read_rows
from benchmarks.search_efficiency.judged import HOLDS_ALPHA, is_short
from benchmarks.search_efficiency.summary import method_name
from nanh2lib.config import DatasetSettings
from nanh2lib.crystal.rigid_unit import SODIUM_AMIDE
from nanh2lib.crystal.space_group import SpaceGroup
from nanh2lib.files import write_atomically
from nanh2lib.pipeline.comparison import ENERGY_WINDOW
from nanh2lib.pipeline.run import read_json
from nanh2lib.ranking import matches
from nanh2lib.records import Candidate, RelaxationResult
from nanh2lib.relaxation import relax
from nanh2lib.relaxation.quality import symmetry_of
from nanh2lib.report.dataset import entries_that_are
from nanh2lib.report.efficiency_tables import UNTAUGHT
from nanh2lib.report.published import reference_structure
from nanh2lib.store.dataset import load_dataset, read_manifest

METHODS = {"search": "random_search", "model": "model"}
"""How the methods of the searches begin whose finds count as found by a search, or by a model."""


def write_summary(folder: Path) -> dict[str, Any]:
    """Compute and write summary.json."""
    searches = read_searches(folder)
    confirmed = read_rows(folder / "confirmed.json").get("rows", {})
    alpha = {"dataset": dataset_alpha(), "search_efficiency": study_alpha(folder.parent / "search_efficiency")}
    found: dict[str, dict[str, Any]] = {}
    for key in map(str, searches["key"].unique()):
        evidence = {who: find_evidence(key, who, searches, confirmed) for who in METHODS}
        found[key] = {who: entry for who, entry in evidence.items() if entry is not None}
    found["alpha"] = {"search": alpha["dataset"]["evidence"], "model": model_evidence(alpha["search_efficiency"])}
    summary = {
        "searches": searches_summary(searches),
        "energies": energies_summary(read_rows(folder / "relaxed.json").get("rows", {})),
        "best": best_finds(confirmed),
        "alpha": alpha,
        "found": found,
    }
    text = json.dumps(summary, indent=1, sort_keys=True, allow_nan=False) + "\n"
    write_atomically(folder / "summary.json", text.encode())
    return summary


def searches_summary(rows: pd.DataFrame) -> dict[str, dict[str, Any]]:
    """Relaxations until found, hits, calls, by ``"key, cell, method, potential"``."""
    found = {}
    for names, mine in rows.groupby(["key", "cell", "method", "potential"], sort=True):
        mine = mine.sort_values(["seed", "number"])
        hits = np.flatnonzero(mine["found"].to_numpy() == 1)
        calls = mine["evaluations"].to_numpy()
        gaps = mine["mev_from_published"].dropna()
        found[", ".join(names)] = {
            "relaxations": len(mine),
            "evaluations": int(calls.sum()),
            "unusable": int(mine["energy_final"].isna().sum()),
            "hits": len(hits),
            "relaxations_until_found": int(hits[0]) + 1 if len(hits) else None,
            "evaluations_until_found": int(calls[: hits[0] + 1].sum()) if len(hits) else None,
            "first_found": str(mine["sample_id"].iloc[hits[0]]) if len(hits) else None,
            "lowest_mev_from_published": round(float(gaps.min()), 2) if len(gaps) else None,
            "median_mev_from_published": round(float(gaps.median()), 2) if len(gaps) else None,
            "below_published": int((gaps < -5).sum()),
        }
    return found


def find_evidence(key: str, who: str, rows: pd.DataFrame, confirmed: dict[str, Any]) -> dict[str, Any] | None:
    """Whether a kind of search found a published structure, with the find, or with what was tried; None without rows.

    A find that the better potential confirms comes first, then one by the potential of the search alone.

    Parameters
    ----------
    key : str
    who : {"search", "model"}
        Random search, or proposals of the model, as shipped or taught.
    rows : DataFrame
        From `read_searches`.
    confirmed : dict
        Entries of confirmed.json by name.
    """
    mine = rows[(rows["key"] == key) & rows["method"].str.startswith(METHODS[who])]
    if mine.empty:
        return None
    mine = mine.sort_values(["cell", "potential", "method", "seed", "number"])
    tried = {"relaxations": len(mine), "evaluations": int(mine["evaluations"].sum())}
    hits = counted_hits(mine, confirmed)
    if hits.empty:
        judged = mine[mine["potential"] == BETTER] if (mine["potential"] == BETTER).any() else mine
        gaps = judged["mev_from_published"].dropna()
        lowest = round(float(gaps.min()), 1) if len(gaps) else None
        series = mine.groupby(["cell", "potential", "method", "seed"])
        command = "; ".join(command_of(part.iloc[0], len(part)) for _, part in series)
        return {"found": False, **tried, "lowest_mev_from_published": lowest, "command": command}
    row = hits.iloc[0]
    entry = confirmed.get(row["sample_id"], {})
    judged = entry if entry.get("found") else row
    return {
        "found": True,
        **tried,
        "hits": len(hits),
        "relaxations_until_found": int(row["number"]) + 1,
        "id": row["sample_id"],
        "rms": round(float(judged["rms"]), 4),
        "energy_difference_mev": round(float(judged["mev_from_published"]), 2),
        "potential": BETTER if entry.get("found") else row["potential"],
        "command": command_of(row, int(row["number"]) + 1),
    }


def counted_hits(rows: pd.DataFrame, confirmed: dict[str, Any]) -> pd.DataFrame:
    """Rows that met a published structure, those first that the better potential knows of.

    Once a hit of the quick potential was made into something else by the better one, none of the quick one counts
    that was not confirmed itself: what was met is then not the published structure but what the quick potential makes
    of it.
    """
    verdicts = rows["sample_id"].map(lambda name: confirmed.get(name, {}).get("found"))
    hits = rows[rows["found"] == 1]
    better, quick = hits[hits["potential"] == BETTER], hits[hits["potential"] != BETTER]
    sure, refuted = rows[verdicts == True], quick[verdicts[quick.index] == False]  # noqa: E712
    found = pd.concat([sure, better, quick.iloc[:0] if len(refuted) else quick])
    return found.drop_duplicates("sample_id")


def command_of(row: pd.Series, count: int) -> str:
    """The command that makes a row of the searches."""
    method, _, learned = str(row["method"]).partition("-")
    what = f"model --key {row['key']}" if method == "model" else f"search --key {row['key']} --cell {row['cell']}"
    more = f" --learn {learned}" if learned else f" --potential {row['potential']}" if method != "model" else ""
    return f"{COMMAND} {what} --count {count} --seed {int(row['seed'])}{more}"


def model_evidence(study: dict[str, Any]) -> dict[str, Any] | None:
    """Whether a model that was not shown alpha found it in the search-efficiency study; None where none was tried."""
    tried = {name: entry for name, entry in study.items() if not entry["taught"] and not name.startswith(UNTAUGHT)}
    if not tried:
        return None
    hits = {name: entry for name, entry in tried.items() if entry["alpha"]}
    evidence = {
        "found": bool(hits),
        "relaxations": sum(entry["relaxations"] for entry in tried.values()),
        "hits": sum(entry["alpha"] for entry in tried.values()),
        "command": "python -m benchmarks.search_efficiency run --method METHOD --template TEMPLATE",
    }
    return evidence | next((entry["first"] for entry in hits.values()), {})


def best_finds(confirmed: dict[str, Any], count: int = 4) -> dict[str, Any]:
    """Our lowest different crystals in the printed cells of Table S2, cell by cell and over all four."""
    entries = {
        name: entry
        for name, entry in confirmed.items()
        if entry["searched_cell"] == "printed"
        and "ev_per_fu" in entry
        and not set(entry["flags"]) - {"symmetry_gained"}
    }
    order = sorted(entries, key=lambda name: (entries[name]["ev_per_fu"], name))
    kept = ("key", "method", "mev_from_published", "mev_above_alpha", "found", "volume_per_fu", "space_groups")
    rows = {name: {field: entries[name][field] for field in kept} for name in order}
    by_key: dict[str, list[str]] = {}
    for name in order:
        by_key.setdefault(entries[name]["key"], []).append(name)
    return {"rows": rows, "best": order[:count], "by_key": by_key}


def energies_summary(rows: dict[str, Any]) -> dict[str, Any]:
    """Relaxed energies above alpha, and the order, by potential; without those that may not be ranked."""
    summary = {}
    for potential in POTENTIALS:
        entries = {key: by_potential.get(potential, {}) for key, by_potential in rows.items()}
        energies = {
            key: entry["ev_per_fu"]
            for key, entry in entries.items()
            if "ev_per_fu" in entry and not set(entry["flags"]) & set(RelaxationResult.BAD_FLAGS)
        }
        if "alpha" not in energies:
            continue
        above = {key: round(1e3 * (energy - energies["alpha"]), 1) for key, energy in energies.items()}
        summary[potential] = {"mev_above_alpha": above, "order": sorted(above, key=lambda key: (above[key], key))}
    return summary


def dataset_alpha() -> dict[str, Any]:
    """How often the search of the shipped dataset ended in alpha, by setting, and what all its relaxations cost."""
    entries = load_dataset()
    ended = {entry.id for entry in entries_that_are(entries, reference_structure("alpha"))}
    by_setting: dict[str, list[int]] = {}
    for entry in entries:
        if entry.asymmetric_unit is None:
            continue
        hall = entry.asymmetric_unit.hall_number
        count = by_setting.setdefault(f"{SpaceGroup.from_hall(hall).symbol} (Hall {hall})", [0, 0])
        count[0] += 1
        count[1] += int(entry.id in ended)
    calls = [entry.relaxed_fixed.evaluations for entry in entries if entry.relaxed_fixed is not None]
    return {
        "relaxations": len(calls),
        "evaluations": int(sum(calls)),
        "ended_in_alpha": len(ended),
        "evidence": alpha_evidence(entries, ended),
        "matched_but_higher": matched_but_higher(entries, ended),
        "by_setting": {name: {"relaxations": n, "alpha": k} for name, (n, k) in sorted(by_setting.items())},
    }


def matched_but_higher(entries: tuple[Candidate, ...], ended: set[str]) -> dict[str, Any]:
    """Entries with the group of alpha that StructureMatcher takes for alpha, although their energy says otherwise."""
    alpha, number = reference_structure("alpha"), symmetry_of(reference_structure("alpha"))[0]
    zero = min((e.relaxed_fixed.energy_final for e in entries if e.relaxed_fixed and e.id in ended), default=math.nan)
    found = {}
    for entry in entries:
        result = entry.relaxed_fixed
        if result is None or not result.usable or result.space_group_after != number or entry.id in ended:
            continue
        rms = matches(result.structure, alpha)
        if rms is not None:
            found[entry.id] = {"rms": round(rms, 4), "mev_above_alpha": round(1e3 * (result.energy_final - zero), 1)}
    return found


def alpha_evidence(entries: tuple[Candidate, ...], ended: set[str]) -> dict[str, Any]:
    """The entry of the dataset that is nearest to alpha in energy, beside alpha relaxed alike."""
    calls = int(sum(entry.relaxed_fixed.evaluations for entry in entries if entry.relaxed_fixed is not None))
    tried: dict[str, Any] = {"relaxations": len(entries), "evaluations": calls, "hits": len(ended)}
    tried["command"] = str(read_manifest()["command"])
    results = {entry.id: entry.relaxed_fixed for entry in entries if entry.id in ended and entry.relaxed_fixed}
    if not results:
        return {"found": False, **tried}
    alpha = relax(reference_structure("alpha"), DatasetSettings().relaxed_fixed, SODIUM_AMIDE)[-1]
    gaps = {name: 1e3 * (result.energy_final - alpha.energy_final) for name, result in results.items()}
    name = min(gaps, key=lambda key: (abs(gaps[key]), key))
    rms = matches(results[name].structure, alpha.structure)
    return {
        "found": rms is not None and abs(gaps[name]) <= 1e3 * ENERGY_WINDOW,
        "id": name,
        "rms": None if rms is None else round(rms, 4),
        "energy_difference_mev": round(gaps[name], 2),
        "within_5_mev": sum(abs(gap) <= 1e3 * ENERGY_WINDOW for gap in gaps.values()),
        "potential": alpha.potential,
        **tried,
    }


def study_alpha(folder: Path) -> dict[str, Any]:
    """The same of the search-efficiency study, by method and template that can hold alpha; empty without rows.

    ``taught``: the method's model had alpha in its training set.
    """
    path = folder / "relaxations.csv"
    if not path.exists():
        return {}
    rows, zero = pd.read_csv(path), float(read_json(folder / "alpha.json")["energy_ev_per_fu"])
    result: dict[str, Any] = {}
    for (method, held_out, variant, template), mine in rows.groupby(["method", "held_out", "variant", "template"]):
        if is_short(template, variant) or template not in HOLDS_ALPHA:
            continue
        name = f"{method_name(method, variant, held_out)}, {template}"
        result[name] = {
            "relaxations": len(mine),
            "evaluations": int((mine["evaluations"] + mine["screening"]).sum()),
            "alpha": int(mine["matches_alpha"].sum()),
            "taught": not held_out and method not in UNTAUGHT,
        }
        hits = mine[mine["matches_alpha"] == 1]
        if len(hits):
            gap = 1e3 * (float(hits["energy_final"].iloc[0]) - zero)
            result[name]["first"] = {"id": hits["sample_id"].iloc[0], "rms": None, "energy_difference_mev": gap}
    return result

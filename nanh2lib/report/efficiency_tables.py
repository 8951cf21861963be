"""Tables of the committed study of search efficiency: what each part buys, and whether the goal is reached."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from nanh2lib.report.efficiency import (
    HELD_OUT,
    LEVELS,
    EfficiencyStudy,
    cost_of,
    method_label,
    saving_of,
    with_training,
    words,
)
from nanh2lib.report.numbers import NOT_PRINTED

PROPOSED_BY = {"random": "uniform draws", "pyxtal": "PyXtal", "paper": "supplement's model"}


def ablation_frame(study: EfficiencyStudy, template: str, level: str = "a") -> pd.DataFrame:
    """What each part of a method buys on one template.

    Parameters
    ----------
    study : EfficiencyStudy
    template : str
    level : {"a", "b", "c"}
        Of evaluations per hit and of savings.

    Returns
    -------
    DataFrame
        One row a method: its parts, relaxations, hits of all levels, and the numbers of one level with
        95 % intervals; "> " marks one-sided bounds.
    """
    lines = {}
    for name, numbers in study.methods(template).items():
        hits = numbers["hits"]
        charged = numbers["training_evaluations"]
        lines[method_label(name)] = {
            **_parts(study, name),
            "relaxations": str(numbers["relaxations"]),
            "seeds": str(len(numbers["seeds"])),
            "hits a / b / c": " / ".join(str(_or_dash(hits[key].get("hits"))) for key in LEVELS),
            f"evaluations per hit ({level})": words(cost_of(hits[level]), 0),
            "saving": words(saving_of(hits[level]), 1),
            "saving, training charged": words(saving_of(with_training(numbers)[level]), 1) if charged else NOT_PRINTED,
            "training calls": str(charged) if charged else NOT_PRINTED,
        }
    return pd.DataFrame.from_dict(lines, orient="index")


def goal_frame(study: EfficiencyStudy, names: Sequence[str], *, goal: float = 5.0, floor: float = 2.0) -> pd.DataFrame:
    """Whether savings reach a goal, template by template and level by level.

    Parameters
    ----------
    study : EfficiencyStudy
    names : sequence of str
        Methods by their names in the summary; those that a template lacks are left out.
    goal, floor : float
        Reached: the saving is at least ``goal`` and the lower end of its interval above ``floor``. Where
        random search had no hit there is no ratio, and no verdict.

    Returns
    -------
    DataFrame
        One row a template and method; for each level the saving and ``"yes"``, ``"no"`` or a dash.
    """
    lines = {}
    for template in study.templates:
        methods = study.methods(template)
        for name in (name for name in names if name in methods):
            cells = {}
            for level in LEVELS:
                hits = methods[name]["hits"][level]
                found = saving_of(hits)
                cells[f"saving ({level})"] = words(found, 1)
                verdict = NOT_PRINTED
                if found is not None and not found[1]:
                    (value, low, _), _ = found
                    verdict = "yes" if value >= goal and low > floor else "no"
                elif hits.get("hits") == 0:
                    verdict = "no"
                cells[f"reached ({level})"] = verdict
            lines[f"{template}: {method_label(name)}"] = cells
    return pd.DataFrame.from_dict(lines, orient="index")


def confirmed_frame(study: EfficiencyStudy) -> pd.DataFrame:
    """The best finds of each method under a potential that did not judge the search.

    Returns
    -------
    DataFrame
        One row a template and method: how many of its lowest different finds were relaxed again, the lowest by
        the judging potential and by the other one (meV above alpha), how many the other one puts within
        the levels b and c, and the rank correlation of the two energies.
    """
    lines = {}
    for template in study.templates:
        for name, numbers in study.methods(template).items():
            found = numbers.get("confirmed")
            if found is None:
                continue
            correlation = found["rank_correlation"]
            lines[f"{template}: {method_label(name)}"] = {
                "finds": str(found["finds"]),
                "lowest, CHGNet": f"{numbers['lowest_mev_above_alpha']:.0f}",
                "lowest, SevenNet-0": f"{found['lowest_mev_above_alpha']:.0f}",
                "median, SevenNet-0": f"{found['median_mev_above_alpha']:.0f}",
                "within 20 / 50 meV": f"{found['within_b']} / {found['within_c']}",
                "unusable": str(found["unusable"]),
                "rank correlation": NOT_PRINTED if correlation is None else f"{correlation:.2f}",
            }
    return pd.DataFrame.from_dict(lines, orient="index")


def repeats_frame(study: EfficiencyStudy, level: str = "a") -> pd.DataFrame:
    """How many of the low finds of each method are crystals that it had found before, or that it was taught.

    Parameters
    ----------
    study : EfficiencyStudy
    level : {"a", "b", "c"}
        What counts as low.

    Returns
    -------
    DataFrame
        One row a template and method with a low find: relaxations, low finds, those that repeat an earlier one of the
        same method, those that match the training set, and the hits that are left.
    """
    lines = {}
    for template in study.templates:
        for name, numbers in study.methods(template).items():
            hits = numbers["hits"][level]
            rows = study.rows(template, name)
            low = rows[rows["energy_final"] <= hits.get("level_ev_per_fu", float("-inf"))]
            if not len(low):
                continue
            repeated = low["duplicate_of"].fillna("") != ""
            lines[f"{template}: {method_label(name)}"] = {
                "relaxations": str(numbers["relaxations"]),
                "low finds": str(len(low)),
                "found before": str(int(repeated.sum())),
                "in its training set": str(len(low) - int(repeated.sum()) - hits["hits"]),
                "hits": str(hits["hits"]),
            }
    return pd.DataFrame.from_dict(lines, orient="index")


def _parts(study: EfficiencyStudy, name: str) -> dict[str, str]:
    """Parts of a method as its committed settings name them."""
    method, variant = name.split(", ", 1)
    held_out, method = HELD_OUT in method, method.replace(HELD_OUT, "")
    settings = study.variants.get(f"{method}{'-heldout' if held_out else ''}-{variant}", {})
    guided = settings.get("guide", "none")
    if method == "paper_guided":
        guided = f"w = {settings.get('sampling', {}).get('guidance_scale', NOT_PRINTED)}"
    return {
        "proposed by": PROPOSED_BY.get(method.removesuffix("_guided"), "geometric model"),
        "guided": "no" if guided == "none" else str(guided),
        "downhill": "yes" if settings.get("downhill") else "no",
        "best of": str(settings.get("oversample", 1)),
        "screened": f"1 of {settings['screen']}" if "screen" in settings else "no",
    }


def _or_dash(value: Any) -> Any:
    return NOT_PRINTED if value is None else value

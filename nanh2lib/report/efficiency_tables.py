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
    counted_label,
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


UNTAUGHT = ("random", "pyxtal")
"""How the names of methods begin that learn nothing, or only a potential of held-out crystals."""
CHANGED = {
    "part-all-parts": "all parts",
    "part-no-torus": "positions without periodicity",
    "part-no-unit-symmetry": "orientations without the unit's symmetry",
    "part-no-rotation-group": "rotation vectors as a flat space",
    "part-no-origin-quotient": "origin not divided out",
    "part-no-equivariance": "a plain perceptron, origins shifted",
    "part-no-space-group": "space group not told",
    "part-no-sites": "sites not told",
    "part-unrelaxed-data": "learns from unrelaxed crystals",
    "guide-none": "no guide",
    "guide-paper": "guide at the noised crystal (paper)",
    "part-noised-guide": "guide that is told the noise (noised)",
    "guide-x0": "guide at the denoised estimate (x0)",
    "guide-physics": "CHGNet's own gradient (physics)",
    "guide-x0-corrected": "guide x0, push-apart in the last steps",
    "guide-x0-steered": "guide x0, population resampled",
}
"""What pages call the rows of a model taken apart, in their order."""


def alpha_frame(study: EfficiencyStudy) -> pd.DataFrame:
    """How often methods that cannot have been taught alpha found it, repeats included.

    Returns
    -------
    DataFrame
        One row a template that can hold alpha and a method: relaxations, how many ended in alpha, evaluations for
        each, and the saving against random search.
    """
    lines = {}
    for template in study.templates:
        for name, numbers in study.methods(template).items():
            found = numbers.get("alpha")
            if found is None or not (HELD_OUT in name or name.startswith(UNTAUGHT)):
                continue
            lines[f"{template}: {method_label(name)}"] = {
                "relaxations": str(numbers["relaxations"]),
                "ended in α": str(found["found"]),
                "evaluations for each": words(cost_of(found), 0),
                "saving": words(saving_of(found), 1),
            }
    return pd.DataFrame.from_dict(lines, orient="index")


def taken_apart_frame(study: EfficiencyStudy, template: str) -> pd.DataFrame:
    """One model with one part changed in each row: raw samples, what relaxing them takes, and where it ends.

    Parameters
    ----------
    study : EfficiencyStudy
    template : str

    Returns
    -------
    DataFrame
        Random search, for comparison, and one row a variant; energies in meV per formula unit above alpha.
    """
    order = list(CHANGED)
    lines = {"random search": _short_line(study, template, "random, default", "templates")}
    for name in sorted(study.methods(template, "taken_apart"), key=lambda n: order.index(n.split(", ", 1)[1])):
        lines[CHANGED[name.split(", ", 1)[1]]] = _short_line(study, template, name, "taken_apart")
    return pd.DataFrame.from_dict(lines, orient="index")


def easy_frame(study: EfficiencyStudy) -> pd.DataFrame:
    """The easy end: templates with one unit of each kind, where anything finds what is there."""
    lines = {
        f"{template}: {'random' if name.startswith('random') else 'geometric, held out'}": _short_line(
            study, template, name, "easy"
        )
        for template in study.summary["easy"]
        for name in study.methods(template, "easy")
    }
    return pd.DataFrame.from_dict(lines, orient="index")


def _short_line(study: EfficiencyStudy, template: str, name: str, section: str) -> dict[str, str]:
    numbers, rows = study.methods(template, section)[name], study.rows(template, name)
    samples = numbers["samples"]
    start = 1e3 * (rows["energy_start"].median() - study.alpha)
    return {
        "relaxations": str(numbers["relaxations"]),
        "valid (%)": f"{samples['valid_percent']:.0f}",
        "at 0.7 of limits (%)": f"{samples['valid_percent_at_0.7']:.0f}",
        "median before": _whole(start),
        "median after": _whole(numbers["median_mev_above_alpha"]),
        "lowest": _whole(numbers["lowest_mev_above_alpha"]),
        "different": str(numbers["different"]),
        "hits (c)": str(numbers["hits"]["c"]["hits"]),
        "ended in α": str(numbers["alpha_found"]),
        "evaluations each": f"{numbers['evaluations'] / numbers['relaxations']:.0f}",
    }


def screened_frame(study: EfficiencyStudy) -> pd.DataFrame:
    """What methods without screening would have saved, had only the lowest eighth after one call been relaxed.

    Returns
    -------
    DataFrame
        One row a template and method: hits of all levels, and the saving at each with its 95 % interval.
    """
    lines = {}
    for template in study.templates:
        for name, numbers in study.methods(template).items():
            hits = numbers.get("hits_if_screened")
            if hits is None or name == "random, default":
                continue
            cells = {"hits a / b / c": " / ".join(str(hits[level].get("hits")) for level in LEVELS)}
            cells |= {f"saving ({level})": words(saving_of(hits[level]), 1) for level in LEVELS}
            lines[f"{template}: {counted_label(name, numbers)}"] = cells
    return pd.DataFrame.from_dict(lines, orient="index")


def _whole(value: float) -> str:
    """Rounded to a whole number; a tiny negative one is 0, not -0."""
    return str(round(value))


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

"""Tables of a run that the book's own pages include, as Markdown."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import spearmanr

from nanh2lib.crystal.encoding import Scheme
from nanh2lib.pipeline.run import Run, write_text
from nanh2lib.report.account import ENERGY_POTENTIALS, found_words, kick_words
from nanh2lib.report.account_tables import (
    NONE_YET,
    alpha_table,
    best_tables,
    groups_table,
    searches_table,
    title_of,
)
from nanh2lib.report.check import check_markdown, check_published
from nanh2lib.report.html_table import typeset
from nanh2lib.report.numbers import NumberTable, run_words
from nanh2lib.report.published import published_structures, reference_structure
from nanh2lib.report.reference_energies import above, committed_dft_energies, reference_energies
from nanh2lib.report.round_trip import round_trip

POTENTIALS = ("sevennet-0", "chgnet")
NOT_COMPUTED = "–"
_SCHEMES: tuple[tuple[Scheme, int], ...] = (("split", 4), ("paper", 3))


def write_book_tables(run: Run, account: Sequence[Mapping[str, Any]]) -> list[Path]:
    """Write the tables of the page "What holds and what does not".

    Parameters
    ----------
    run : Run
    account : sequence of mapping
        From `nanh2lib.pipeline.reproduce.reproduce_tables`.

    Returns
    -------
    list of Path
        Files in the run's folder ``tables``.
    """
    energies = {name: reference_energies(name) for name in POTENTIALS}
    dft = committed_dft_energies()
    words = run_words(run.config.profile, run.config.seed, run.config.relaxation.potential)
    texts = {
        "published_check": check_markdown(check_published()),
        "encoding_error": encoding_markdown(),
        "energies": energies_markdown(energies, dft.energies, dft.label),
        "potentials": potentials_markdown(energies, dft.energies),
        "reproduced": f"{account_markdown(account)}\n*Committed evidence, and finds of this run: {words}.*\n",
        "relaxed": number_markdown(groups_table(account), "structure"),
        "searches": number_markdown(searches_table(), "series"),
        "alpha_found": number_markdown(alpha_table(), "search"),
        "best_of_ours": best_tables().markdown(),
    }
    return [write_text(run.path("tables", f"{name}.md"), text) for name, text in texts.items()]


def markdown_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table; the first column is text, the others are numbers."""
    lines = ["| " + " | ".join(head) + " |", "|:--|" + "--:|" * (len(head) - 1)]
    return typeset("\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)])) + "\n"


def number_markdown(table: NumberTable, first: str) -> str:
    """A table with its caption below, which says where its numbers come from; a sentence where it has no rows.

    ``first`` is the name of the first column, that of the rows' names.
    """
    if table.frame.empty:
        return f"*{NONE_YET}*\n"
    rows = [
        [str(name), *map(str, cells)] for name, cells in zip(table.frame.index, table.frame.to_numpy(), strict=True)
    ]
    return f"{markdown_table([first, *map(str, table.frame.columns)], rows)}\n*{typeset(table.caption)}*\n"


def encoding_markdown() -> str:
    """What each encoding loses on the published structures and alpha."""
    rows = []
    crystals = {f"{item.table} {item.title}": item.structure for item in published_structures()}
    for title, structure in {**crystals, "alpha, Fddd (Z = 16)": reference_structure("alpha")}.items():
        cells = []
        for scheme, digits in _SCHEMES:
            error = round_trip(structure, scheme).error
            largest = () if error is None else (error.max_heavy, error.max_hydrogen)
            cells += [f"{value:.{digits}f}" for value in largest] or ["refused"] * 2
        rows.append([title, *cells])
    head = ["structure", "split: Na, N (Å)", "split: H (Å)", "paper: Na, N (Å)", "paper: H (Å)"]
    note = (
        "\nLargest displacement of an atom after extract, encode, decode, expand. "
        "*Refused*: Na and N lie on different sites.\n"
    )
    return markdown_table(head, rows) + note


def energies_markdown(energies: Mapping[str, Mapping[str, float]], dft: Mapping[str, float], label: str) -> str:
    """Energies above alpha in meV per formula unit, unrelaxed, by potential and in PBE."""
    columns = {**{name: above(values) for name, values in energies.items()}, "GPAW PBE": above(dft)}
    titles = {
        "alpha": "alpha, Fddd (Z = 16)",
        **{item.key: f"{item.table} {item.title}" for item in published_structures()},
    }
    rows = [[title, *(_cell(column.get(key)) for column in columns.values())] for key, title in titles.items()]
    note = (
        f"\nSingle points, meV per formula unit above alpha; GPAW at {label}. Published structures as printed (errata "
        "applied), alpha as shipped (relaxed with SevenNet-0 in its measured cell): geometries of different origin, so "
        f"read differences of 10 meV with care. {NOT_COMPUTED}: not computed.\n"
    )
    return markdown_table(["structure", *columns], rows) + note


def potentials_markdown(energies: Mapping[str, Mapping[str, float]], dft: Mapping[str, float]) -> str:
    """Mean absolute deviation from PBE after removing the mean, and rank correlation."""
    rows = []
    for name, values in energies.items():
        keys = [key for key in values if key in dft]
        found = 1000 * np.array([values[key] for key in keys])
        wanted = 1000 * np.array([dft[key] for key in keys])
        deviation = (found - found.mean()) - (wanted - wanted.mean())
        correlation = float(spearmanr(found, wanted).statistic) if len(keys) > 2 else math.nan
        rows.append([name, str(len(keys)), f"{np.abs(deviation).mean():.0f}", f"{correlation:.2f}"])
    return markdown_table(["potential", "structures", "mean deviation (meV)", "rank correlation"], rows)


def account_markdown(account: Sequence[Mapping[str, Any]]) -> str:
    """Structure by structure: energies above alpha treated alike, whether it is a minimum, who found it."""
    rows = []
    for row in account:
        heights = [row["relaxed"].get(name, {}).get("mev_above_alpha") for name in ENERGY_POTENTIALS]
        numbers = [row["gpaw_mev_above_alpha"], row["gpaw_relaxed_mev_above_alpha"], *heights]
        found = [found_words(row[f"found_by_{who}"]) for who in ("search", "model")]
        rows.append([title_of(row), *map(_cell, numbers), kick_words(row["kick"]), *found])
    head = ["structure", "PBE, as printed", "PBE, relaxed", *ENERGY_POTENTIALS, "kicked", "by search", "by model"]
    return markdown_table(head, rows)


def _cell(value: float | None) -> str:
    return NOT_COMPUTED if value is None or math.isnan(value) else f"{value:.0f}"

"""The account of Tables S1 and S2 as tables for a page: printed, recomputed and difference apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from nanh2lib.crystal.space_group import SpaceGroup
from nanh2lib.records import RelaxationResult
from nanh2lib.report.account import ENERGY_POTENTIALS, found_words, kick_words
from nanh2lib.report.evidence import read_evidence
from nanh2lib.report.html_table import typeset
from nanh2lib.report.numbers import NOT_PRINTED, NumberTable
from nanh2lib.report.tables import StructureTable

Rows = Sequence[Mapping[str, Any]]
NONE_YET = "Not computed yet: python -m benchmarks.published_tables plan goes on with it."
PBE_COLUMNS = {"PBE, as printed": "gpaw_mev_above_alpha", "PBE, relaxed": "gpaw_relaxed_mev_above_alpha"}


def title_of(row: Mapping[str, Any]) -> str:
    """E.g. ``"S1 P2_1/c (Z = 4)"``."""
    table = "α," if row["key"] == "alpha" else row["table"]
    return f"{table} {row['space_group']} (Z = {row['z']})"


def cells_table(rows: Rows, potential: str) -> NumberTable:
    """Cells as printed, as relaxed with a potential, and the difference.

    Parameters
    ----------
    rows : sequence of mapping
        From `committed_account`.
    potential : str
    """
    cells: dict[str, list[str]] = {}
    for row in rows:
        entry = row["relaxed"].get(potential, {})
        first = _cell_words(row["printed_cell"])
        if "cell" not in entry:
            cells[title_of(row)] = [*first, *[NOT_PRINTED] * 4]
            continue
        changes = ", ".join(f"{value:+.1f}" for value in entry["lengths_change_percent"])
        angle = f"{entry['angles_change_degrees'][1]:+.2f}"
        cells[title_of(row)] = [*first, *_cell_words(entry["cell"]), changes, angle]
    columns = ["printed a, b, c (Å)", "printed β (°)", "recomputed a, b, c (Å)", "recomputed β (°)",
               "difference a, b, c (%)", "difference β (°)"]  # fmt: skip
    return _table(cells, columns, "Cells as printed and relaxed", _source(rows, potential))


def changes_table(rows: Rows, potential: str) -> NumberTable:
    """What a relaxation with a potential changed: volume, positions, energy, space group."""
    cells = {}
    for row in rows:
        entry = row["relaxed"].get(potential, {})
        if "cell" not in entry:
            cells[title_of(row)] = [str(entry.get("failure", NOT_PRINTED)), *[NOT_PRINTED] * 6]
            continue
        cells[title_of(row)] = [
            f"{entry['volume_change_percent']:+.1f}",
            f"{entry['rms_displacement_a']:.3f}",
            f"{entry['energy_change_mev']:+.1f}",
            _groups(entry["space_groups_before"]),
            _groups(entry["space_groups"]),
            str(entry["evaluations"]),
            ("" if entry["converged"] else "not converged ") + " ".join(entry["flags"]).replace("_", " ") or "none",
        ]
    columns = ["volume (%)", "rms displacement (Å)", "energy (meV per formula unit)", "group before", "group after",
               "calls", "flags"]  # fmt: skip
    caption = "What relaxing changes; groups at tolerances of 0.01, 0.05 and 0.1 Å, one where they agree"
    return _table(cells, columns, caption, _source(rows, potential))


def heights_table(rows: Rows) -> NumberTable:
    """Energies above alpha treated alike, with the place in each column's order."""
    heights = {name: [row[field] for row in rows] for name, field in PBE_COLUMNS.items()}
    for name in ENERGY_POTENTIALS:
        heights[f"{name}, relaxed"] = [row["relaxed"].get(name, {}).get("mev_above_alpha") for row in rows]
    cells: dict[str, list[str]] = {title_of(row): [] for row in rows}
    for values in heights.values():
        order = sorted(value for value in values if value is not None)
        for row, value in zip(rows, values, strict=True):
            words = NOT_PRINTED if value is None else f"{value:.0f} ({order.index(value) + 1})"
            cells[title_of(row)].append(words)
    caption = "Energies above α treated alike, meV per formula unit, and in brackets the place in the column"
    return _table(cells, list(heights), caption, "committed evidence; the supplement prints no energies")


def found_table(rows: Rows) -> NumberTable:
    """Whether each structure is a minimum, and whether searches and models found it."""
    cells = {
        title_of(row): [
            kick_words(row["kick"]),
            found_words(row["found_by_search"]),
            _detail(row["found_by_search"], "relaxations_until_found"),
            _detail(row["found_by_search"], "rms"),
            _detail(row["found_by_search"], "energy_difference_mev"),
            found_words(row["found_by_model"]),
        ]
        for row in rows
    }
    columns = ["kicked (sevennet-0)", "found by search", "relaxations until found", "rms (mean spacings)",
               "difference (meV per formula unit)", "found by a model"]  # fmt: skip
    return _table(
        cells, columns, "Minima, and what was found", "committed evidence: python -m benchmarks.published_tables"
    )


def height_levels(rows: Rows) -> dict[str, dict[str, float]]:
    """Energies above alpha (meV per formula unit) by structure, by column; columns without any are left out."""
    columns = {name: {title_of(row): row[field] for row in rows} for name, field in PBE_COLUMNS.items()}
    for name in ENERGY_POTENTIALS:
        columns[name] = {title_of(row): row["relaxed"].get(name, {}).get("mev_above_alpha") for row in rows}
    known = {
        name: {title: value for title, value in levels.items() if value is not None} for name, levels in columns.items()
    }
    return {name.replace(", ", ",\n"): levels for name, levels in known.items() if levels}


@dataclass(frozen=True)
class SourcedTable:
    """A crystal in the form of the paper, and where it comes from."""

    table: StructureTable
    source: str

    def __repr__(self) -> str:
        return f"{self.table.text()}{self.source}"

    def _repr_html_(self) -> str:
        return self.table.html(self.source)


def groups_table(rows: Rows) -> NumberTable:
    """Change of volume, displacement and space group after relaxing, by potential."""
    cells: dict[str, list[str]] = {title_of(row): [] for row in rows}
    for row in rows:
        for name in ENERGY_POTENTIALS:
            entry = row["relaxed"].get(name, {})
            done = "cell" in entry
            cells[title_of(row)] += (
                [
                    f"{entry['volume_change_percent']:+.1f}",
                    f"{entry['rms_displacement_a']:.2f}",
                    ", ".join([_groups(entry["space_groups"]), *_bad_flags(entry)]),
                ]
                if done
                else [NOT_PRINTED] * 3
            )
    columns = [f"{name}: {what}" for name in ENERGY_POTENTIALS for what in ("volume (%)", "rms (Å)", "group")]
    caption = "Relaxed from the printed coordinates; groups at 0.01, 0.05 and 0.1 Å, one where they agree"
    return _table(cells, columns, caption, "committed evidence: python -m benchmarks.published_tables relax")


def searches_table() -> NumberTable:
    """Every series of relaxations of the searches: how many, what they cost, what they met."""
    cells = {}
    for name, numbers in read_evidence("summary").get("searches", {}).items():
        fields = ("relaxations", "evaluations", "hits", "relaxations_until_found", "lowest_mev_from_published",
                  "median_mev_from_published", "below_published")  # fmt: skip
        cells[name.replace("_", " ")] = [_number(numbers[field]) for field in fields]
    columns = ["relaxations", "calls", "hits", "until found", "lowest (meV from published)",
               "median (meV from published)", "more than 5 meV below"]  # fmt: skip
    caption = (
        "Searches for the published structures, by cell, method and potential; model: proposals of the geometric "
        "model; displaced: started near them"
    )
    source = "committed evidence: python -m benchmarks.published_tables search, model and displace"
    return _table(cells, columns, caption, source)


def alpha_table() -> NumberTable:
    """Where random search ended in alpha: settings of the shipped dataset, then the search-efficiency study."""
    alpha = read_evidence("summary").get("alpha", {})
    cells = {
        f"dataset, {name}": [str(counts["relaxations"]), NOT_PRINTED, str(counts["alpha"])]
        for name, counts in alpha.get("dataset", {}).get("by_setting", {}).items()
    }
    studies = alpha.get("search_efficiency", {})
    cells |= {
        f"study, {name}{' (had been shown α)' if n['taught'] else ''}": [
            str(n["relaxations"]),
            str(n["evaluations"]),
            str(n["alpha"]),
        ]
        for name, n in studies.items()
    }
    if cells:
        whole = alpha["dataset"]
        total = [str(whole["relaxations"]), str(whole["evaluations"]), str(whole["ended_in_alpha"])]
        cells = {"dataset, all settings": total, **cells, **_matched_but_higher(whole.get("matched_but_higher", {}))}
    columns = ["relaxations", "calls", "ended in α"]
    return _table(
        cells, columns, "α from scratch in its measured cell", "committed evidence: CHGNet, rigid units, fixed cell"
    )


def _matched_but_higher(entries: Mapping[str, Mapping[str, float]]) -> dict[str, list[str]]:
    """A row for crystals that the matcher takes for alpha and the energy does not; none without them."""
    heights = sorted(entry["mev_above_alpha"] for entry in entries.values())
    if not heights:
        return {}
    gap = " to ".join(dict.fromkeys(f"{height:.0f}" for height in (heights[0], heights[-1])))
    name = f"dataset, Fddd, matched by StructureMatcher but {gap} meV higher"
    return {name: [str(len(heights)), NOT_PRINTED, "0"]}


def _number(value: float | None) -> str:
    return NOT_PRINTED if value is None else f"{value:g}"


@dataclass(frozen=True)
class SourcedTables:
    """Some crystals in the form of the paper, one below the other; says so where there is none."""

    tables: tuple[SourcedTable, ...]

    def markdown(self) -> str:
        """All of them in Markdown."""
        return "\n".join(f"{one.table.markdown()}\n{typeset(one.source)}\n" for one in self.tables) or f"*{NONE_YET}*\n"

    def __repr__(self) -> str:
        return "\n\n".join(map(repr, self.tables)) or NONE_YET

    def _repr_html_(self) -> str:
        return "".join(one.table.html(one.source) for one in self.tables) or f"<p>{NONE_YET}</p>"


def best_tables(count: int = 4) -> SourcedTables:
    """Our own lowest crystals in the printed cells of Table S2, in the form of the paper's tables.

    Parameters
    ----------
    count : int
        At most.

    Returns
    -------
    SourcedTables
        Lowest first; empty without evidence.
    """
    best = read_evidence("summary").get("best", {}).get("best", [])[:count]
    content = read_evidence("confirmed")
    return SourcedTables(
        tuple(_sourced(name, content["rows"][name], str(content["config"]["potential"])) for name in best)
    )


def _sourced(name: str, entry: Mapping[str, Any], potential: str) -> SourcedTable:
    method = str(entry["method"]).replace("_", " ")
    words = (
        f"Cell of {entry['key']}, {method}, seed {entry['seed']} ({name}); relaxed with {potential}: "
        f"{entry['mev_from_published']:+.1f} meV per formula unit from that structure, "
        f"{entry['mev_above_alpha']:+.1f} from α, all relaxed alike."
    )
    return SourcedTable(StructureTable.from_dict(entry["table"]), words)


def _cell_words(cell: Sequence[float]) -> list[str]:
    return [", ".join(f"{value:.3f}" for value in cell[:3]), f"{cell[4]:.2f}"]


def _groups(numbers: Mapping[str, int]) -> str:
    """Symbols by tolerance, one where they are the same."""
    symbols = [SpaceGroup.from_number(int(number)).symbol for number in numbers.values()]
    return " / ".join(dict.fromkeys(symbols))


def _bad_flags(entry: Mapping[str, Any]) -> list[str]:
    """Why a relaxation is not ranked, in words."""
    return [flag.replace("_", " ") for flag in entry["flags"] if flag in RelaxationResult.BAD_FLAGS]


def _detail(evidence: Mapping[str, Any] | None, field: str) -> str:
    return _number(None if evidence is None else evidence.get(field))


def _source(rows: Rows, potential: str) -> str:
    commands = {
        str(row["relaxed"][potential]["command"]) for row in rows if "cell" in row["relaxed"].get(potential, {})
    }
    words = "; ".join(sorted(commands)) or "not computed"
    return f"committed evidence: {words}; potential {potential}; from the printed coordinates, so no seed"


def _table(cells: Mapping[str, list[str]], columns: list[str], caption: str, source: str) -> NumberTable:
    frame = pd.DataFrame.from_dict(dict(cells), orient="index", columns=pd.Index(columns))
    return NumberTable(frame, f"{caption}. ({source[0].upper()}{source[1:]}.)")

"""Recompute what Tables S1 and S2 say: printed, found, verdict, one row a property."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import pandas as pd
from pymatgen.core import Structure

from nanh2lib.crystal.space_group import SpaceGroup
from nanh2lib.report.measurements import Measurements, measure, space_group_of
from nanh2lib.report.published import PublishedStructure, published_structures
from nanh2lib.report.setting import printed_labels

N_H_RANGE = (0.95, 1.12)
"""A; limits for relaxed and published NH2 (34 of the tables' 94 angles lie outside the text's 104 +- 3)."""
H_N_H_RANGE = (95.0, 112.0)
"""Degrees; limits for relaxed and published NH2."""
SHORTEST_ALLOWED: Mapping[str, float] = {
    "Na-Na": 2.8,
    "Na-N": 2.1,
    "N-N": 2.7,
    "Na-H": 1.9,
    "N-H": 1.9,
    "H-H": 1.8,
}
"""A; the realistic contact limits, between different units."""
TEXT_ANGLES = (101.0, 107.0)
TEXT_REMARK = "relaxed after decoding: the window holds for generated fragments only"
VOLUME_RANGE = (38.0, 52.0)
"""A^3 per formula unit: about 20 % below and 10 % above alpha-NaNH2 (47.3)."""
LOOSE_SYMPREC = 5e-2
"""A; tolerance at which near-higher symmetry is looked for."""

HOLDS, FAILS, MISPRINT, REMARK = "holds", "fails", "misprint", "remark"


@dataclass(frozen=True)
class CheckRow:
    """One property of one published structure.

    Attributes
    ----------
    key, table : str
        Which structure.
    quantity : str
        What was checked.
    printed : str
        As printed in the supplement; ``"-"`` where nothing is printed.
    found : str
        Recomputed here, with units.
    limit : str
        What it is held against where nothing is printed.
    verdict : str
        ``"holds"``, ``"fails"``, ``"misprint"`` (printed value replaced) or ``"remark"``.
    """

    key: str
    table: str
    quantity: str
    printed: str
    found: str
    limit: str
    verdict: str

    @property
    def passed(self) -> bool:
        """False where the verdict is ``"fails"``."""
        return self.verdict != FAILS

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def check_published(
    structures: Sequence[PublishedStructure] | None = None, *, as_printed: bool = False, symprec: float = 1e-2
) -> tuple[CheckRow, ...]:
    """Check published structures against what is printed and against stated limits.

    Parameters
    ----------
    structures : sequence of PublishedStructure, optional
        All eight by default.
    as_printed : bool
        Without the errata: shows what fails.
    symprec : float
        Tolerance of the space-group search, A.

    Returns
    -------
    tuple of CheckRow
        In the order of the tables.

    Raises
    ------
    InputError
        The data file was changed.
    """
    chosen = published_structures() if structures is None else structures
    return tuple(row for item in chosen for row in _check_one(item, as_printed, symprec))


def all_hold(rows: Sequence[CheckRow]) -> bool:
    """Whether there is a row and none fails."""
    return bool(rows) and all(row.passed for row in rows)


def check_frame(rows: Sequence[CheckRow]) -> pd.DataFrame:
    """Rows as a data frame with the columns key, table, quantity, printed, found, limit, verdict."""
    columns = ["key", "table", "quantity", "printed", "found", "limit", "verdict"]
    return pd.DataFrame([row.to_dict() for row in rows], columns=columns)


def check_markdown(rows: Sequence[CheckRow]) -> str:
    """Rows as a Markdown table."""
    head = ["structure", "quantity", "printed", "found", "limit", "verdict"]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for row in rows:
        cells = (row.key, row.quantity, row.printed, row.found, row.limit or "-", row.verdict)
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _check_one(item: PublishedStructure, as_printed: bool, symprec: float) -> list[CheckRow]:
    structure = item.structure_as_printed if as_printed else item.structure
    facts = measure(structure)

    def row(quantity: str, printed: str, found: str, limit: str, verdict: bool | str) -> CheckRow:
        text = verdict if isinstance(verdict, str) else (HOLDS if verdict else FAILS)
        return CheckRow(item.key, item.table, quantity, printed, found, limit, text)

    rows = [
        row("composition", "NaNH2", facts.formula, "", facts.formula == "NaNH2"),
        row("Z", str(item.z), str(facts.z), "", facts.z == item.z),
        row("Wyckoff labels", *_label_check(item, as_printed)),
    ]
    found_group = space_group_of(structure, symprec)
    printed_group = f"{item.space_group} (No. {item.space_group_number})"
    symbol = "none" if found_group is None else f"{found_group[0]} (No. {found_group[1]})"
    agrees = found_group is not None and found_group[1] == item.space_group_number
    rows.append(row("space group", printed_group, symbol, f"symprec {symprec:g} A", agrees))
    rows += [row(*values) for values in _fragment_checks(facts)]
    for pair, limit in SHORTEST_ALLOWED.items():
        name = f"shortest {pair}" + (" between NH2" if pair in ("N-H", "H-H") else "")
        shortest = facts.shortest[pair]
        rows.append(row(name, "-", f"{shortest:.2f} A", f">= {limit} A", shortest >= limit))
    volume, (low, high) = facts.volume_per_formula_unit, VOLUME_RANGE
    rows.append(
        row(
            "volume per formula unit",
            "-",
            f"{volume:.2f} A^3",
            f"{low:g} to {high:g} A^3",
            low <= volume <= high,
        )
    )
    if not as_printed:
        rows += [row(*values) for values in _erratum_rows(item, structure)]
        outside = sum(not TEXT_ANGLES[0] <= angle <= TEXT_ANGLES[1] for angle in facts.angles)
        if outside:
            count = f"{outside} of {len(facts.angles)} outside"
            rows.append(row("remark: H-N-H of the text", "104 +- 3 degrees", count, TEXT_REMARK, REMARK))
    return rows


def _fragment_checks(facts: Measurements) -> list[tuple[str, str, str, str, bool]]:
    bond, angle = facts.n_h, facts.h_n_h
    return [
        (
            "N-H",
            "1.03 +- 0.02 A (text)",
            f"{bond[0]:.3f} to {bond[1]:.3f} A",
            f"{N_H_RANGE[0]} to {N_H_RANGE[1]} A, each H on one N",
            facts.intact and N_H_RANGE[0] <= bond[0] and bond[1] <= N_H_RANGE[1],
        ),
        (
            "H-N-H",
            "104 +- 3 degrees (text)",
            f"{angle[0]:.1f} to {angle[1]:.1f} degrees",
            f"{H_N_H_RANGE[0]:g} to {H_N_H_RANGE[1]:g} degrees",
            facts.intact and H_N_H_RANGE[0] <= angle[0] and angle[1] <= H_N_H_RANGE[1],
        ),
    ]


def _label_check(item: PublishedStructure, as_printed: bool) -> tuple[str, str, str, bool]:
    """Printed, found, limit, verdict of the Wyckoff labels, in the printed setting."""
    table = item.printed if as_printed else item.corrected
    group = SpaceGroup.from_hall(item.hall_number)
    found = printed_labels([row.coordinates for row in table.rows], group)
    printed = [f"{row.element}({row.label})" for row in table.rows]
    recomputed = [f"{row.element}({label})" for row, label in zip(table.rows, found, strict=True)]
    limit = f"positions of {item.space_group}"
    return _counted(printed), _counted(recomputed), limit, printed == recomputed


def _counted(labels: Sequence[str]) -> str:
    counts: dict[str, int] = {}
    for label in labels:
        counts[label] = counts.get(label, 0) + 1
    return ", ".join(f"{count} {label}" if count > 1 else label for label, count in counts.items())


def _erratum_rows(item: PublishedStructure, structure: Structure) -> list[tuple[str, str, str, str, str]]:
    """One row for each erratum; a remark on the space group is recomputed."""
    rows = []
    for erratum in item.errata:
        if erratum.kind == "correction":
            rows.append((f"erratum: {erratum.field}", erratum.printed, erratum.holds, erratum.evidence, MISPRINT))
        else:
            loose = space_group_of(structure, LOOSE_SYMPREC)
            found = "none" if loose is None else f"{loose[0]} (No. {loose[1]})"
            rows.append(("remark: space group", erratum.printed, found, f"at symprec {LOOSE_SYMPREC:g} A", REMARK))
    return rows

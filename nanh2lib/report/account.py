"""The account of Tables S1 and S2: for each structure what was printed, what was computed, and who found it.

Everything here is read from committed evidence; nothing is computed but differences.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pymatgen.core import Structure

from nanh2lib.crystal.space_group import SpaceGroup
from nanh2lib.errors import InputError
from nanh2lib.records import RelaxationResult
from nanh2lib.report.book import project_root
from nanh2lib.report.evidence import read_evidence
from nanh2lib.report.published import published_structures, reference_structure
from nanh2lib.report.reference_energies import above, committed_dft_energies

Row = dict[str, Any]
GPAW_SINGLE_POINTS = Path("benchmarks", "results", "gpaw_published.json")
_GPAW_FIELDS = (
    "gpaw", "k_spacing", "cell", "volume_per_fu", "space_group", "stopped", "fmax", "max_stress_gpa", "date", "command",
)  # fmt: skip
ENERGY_POTENTIALS = ("sevennet-0", "chgnet", "sevennet-l3i5")
_RELAXED_FIELDS = (
    "cell", "volume_per_fu", "ev_per_fu", "energy_change_mev", "lengths_change_percent", "angles_change_degrees",
    "volume_change_percent", "rms_displacement_a", "space_groups", "space_groups_before", "evaluations", "converged",
    "flags", "date", "version",
)  # fmt: skip


def committed_account(root: Path | None = None) -> list[Row]:
    """What the committed evidence says of the eight published structures and alpha.

    Parameters
    ----------
    root : Path, optional
        The checkout; default: the one around the working directory or the package.

    Returns
    -------
    list of dict
        In printed order, alpha last. Keys: key, table, space_group, z, printed_cell, relaxed (by potential: cell,
        ev_per_fu, space_group, mev_above_alpha and more), gpaw_ev_per_fu, gpaw_mev_above_alpha,
        gpaw_relaxed_ev_per_fu, gpaw_relaxed_mev_above_alpha, gpaw_relaxed (cell, settings), kick, found_by_search,
        found_by_model. A number that was not computed is None, and so is a search that was not tried; a relaxation
        whose flags forbid ranking has no mev_above_alpha.
    """
    relaxed, kicks = read_evidence("relaxed", root), read_evidence("kicks", root)
    finds = read_evidence("summary", root).get("found", {})
    single, full = first_principles_energies(root), read_evidence("gpaw_relaxed", root)
    rows = []
    for key, (table, space_group, z, structure) in known_crystals().items():
        entries = relaxed.get("rows", {}).get(key, {})
        zero = relaxed.get("rows", {}).get("alpha", {})
        rows.append(
            {
                "key": key,
                "table": table,
                "space_group": space_group,
                "z": z,
                "printed_cell": [round(value, 4) for value in structure.lattice.parameters],
                "relaxed": {
                    name: _relaxed(entries[name], zero.get(name, {}), str(relaxed.get("command", "")), name)
                    for name in ENERGY_POTENTIALS
                    if name in entries
                },
                "gpaw_ev_per_fu": single.get(key),
                "gpaw_mev_above_alpha": _above(single, key),
                "gpaw_relaxed_ev_per_fu": full.get(key, {}).get("ev_per_fu"),
                "gpaw_relaxed_mev_above_alpha": _relaxed_above(full, key),
                "gpaw_relaxed": {name: full[key][name] for name in _GPAW_FIELDS if name in full[key]}
                if key in full
                else None,
                "kick": kicks.get("rows", {}).get(key),
                "found_by_search": finds.get(key, {}).get("search"),
                "found_by_model": finds.get(key, {}).get("model"),
            }
        )
    return rows


def first_principles_energies(root: Path | None = None) -> dict[str, float]:
    """Committed GPAW (PBE) single points of the crystals as they stand, eV per formula unit by key.

    Parameters
    ----------
    root : Path, optional
        The checkout.

    Returns
    -------
    dict
        Empty where there is no such file, or outside a checkout.
    """
    try:
        path = (root or project_root()) / GPAW_SINGLE_POINTS
        return dict(committed_dft_energies(path).energies) if path.exists() else {}
    except InputError:
        return {}


def known_crystals() -> dict[str, tuple[str, str, int, Structure]]:
    """Table, symbol, formula units a cell and crystal of the published structures and, last, of alpha; by key."""
    known = {item.key: (item.table, item.space_group, item.z, item.structure) for item in published_structures()}
    return {**known, "alpha": ("experiment", "Fddd", 16, reference_structure("alpha"))}


def _relaxed(entry: Mapping[str, Any], zero: Mapping[str, Any], command: str, potential: str) -> Row:
    if "ev_per_fu" not in entry:
        return dict(entry)
    number = int(entry["space_groups"]["0.01"])
    ranked = "ev_per_fu" in zero and not set(entry["flags"]) & set(RelaxationResult.BAD_FLAGS)
    above = round(1e3 * (entry["ev_per_fu"] - zero["ev_per_fu"]), 1) if ranked else None
    return {
        **{name: entry[name] for name in _RELAXED_FIELDS},
        "space_group": SpaceGroup.from_number(number).symbol,
        "mev_above_alpha": above,
        "command": command.replace("NAME", potential),
    }


def _above(energies: Mapping[str, float], key: str) -> float | None:
    return round(above(energies)[key], 1) if key in energies and "alpha" in energies else None


def _relaxed_above(entries: Mapping[str, Any], key: str) -> float | None:
    """None also where cutoff or k-points differ from those of alpha: such energies are not comparable."""
    mine, zero = entries.get(key), entries.get("alpha")
    if mine is None or zero is None:
        return None
    settings = [(entry["gpaw"]["cutoff"], entry["k_spacing"]) for entry in (mine, zero)]
    return round(1e3 * (mine["ev_per_fu"] - zero["ev_per_fu"]), 1) if settings[0] == settings[1] else None


def was_found(evidence: Mapping[str, Any] | None) -> bool:
    """Whether evidence of a search says that it found the crystal; one that was not tried did not."""
    return evidence is not None and bool(evidence["found"])


def found_words(evidence: Mapping[str, Any] | None) -> str:
    """``"yes"``, ``"no"`` with the number of relaxations, or ``"not tried"``."""
    if evidence is None:
        return "not tried"
    if evidence["found"]:
        return "yes"
    tried = evidence.get("relaxations")
    return f"no, {tried} tries" if tried else "no"


def kick_words(evidence: Mapping[str, Any] | None) -> str:
    """What the kick showed."""
    return "not tried" if evidence is None else str(evidence["verdict"])


def account_text(rows: Sequence[Mapping[str, Any]]) -> str:
    """The account as lines for a terminal; energies in meV per formula unit above alpha, treated alike."""
    heads = ["structure", "Z", "PBE", "PBE relaxed", *ENERGY_POTENTIALS, "kick", "by search", "by model"]
    lines = [heads]
    for row in rows:
        potentials = [row["relaxed"].get(name, {}).get("mev_above_alpha") for name in ENERGY_POTENTIALS]
        numbers = [row["gpaw_mev_above_alpha"], row["gpaw_relaxed_mev_above_alpha"], *potentials]
        found = [found_words(row[f"found_by_{who}"]) for who in ("search", "model")]
        first = f"{'' if row['key'] == 'alpha' else row['table']} {row['space_group']}".strip()
        first = "alpha Fddd" if row["key"] == "alpha" else first
        lines.append([first, str(row["z"]), *map(_cell, numbers), kick_words(row["kick"]), *found])
    widths = [max(len(line[k]) for line in lines) for k in range(len(heads))]
    body = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines]
    note = (
        "meV per formula unit above alpha treated alike: PBE single points as printed (alpha as shipped), PBE relaxed, "
        "and each potential relaxed; - : not computed. --json has cells, groups, evidence and commands."
    )
    return "\n".join([*body, "", note])


def _cell(value: float | None) -> str:
    return "-" if value is None else f"{value:.0f}"

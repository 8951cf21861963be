"""What the book's gallery shows of a run: the published structures, alpha, and the run's best ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nanh2lib.pipeline.comparison import finders, relaxed_reference
from nanh2lib.pipeline.refine import ranked_table
from nanh2lib.pipeline.run import Run
from nanh2lib.report.cif import published_cifs, structure_cif
from nanh2lib.report.gallery_page import GalleryEntry, write_gallery
from nanh2lib.report.measurements import space_group_of
from nanh2lib.report.numbers import run_words
from nanh2lib.report.published import published_structures, reference_structure
from nanh2lib.report.reference_energies import above, reference_energies
from nanh2lib.report.tables import formula_units

SINGLE_POINT = "sevennet-0"


def make_gallery(run: Run, account: Sequence[Mapping[str, Any]]) -> Path:
    """Write the gallery of a run.

    Parameters
    ----------
    run : Run
    account : sequence of mapping
        From `nanh2lib.pipeline.reproduce.reproduce_tables`.

    Returns
    -------
    Path
        ``tables/gallery.md``.
    """
    words = run_words(run.config.profile, run.config.seed, run.config.relaxation.potential)
    return write_gallery(run.directory, [*known_entries(account), *best_entries(run)], words)


def known_entries(account: Sequence[Mapping[str, Any]]) -> list[GalleryEntry]:
    """Alpha and the eight published structures, with energies above alpha as printed and as relaxed."""
    rows = {str(row["key"]): row for row in account}
    cifs, points = published_cifs(), above(reference_energies(SINGLE_POINT))
    titles = {item.key: f"{item.table} {item.title}" for item in published_structures()}
    structures = {item.key: item.structure for item in published_structures()}
    entries = []
    for key in ("alpha", *titles):
        structure = structures[key] if key in structures else reference_structure(key)
        facts = [_cell_words(structure)]
        if key == "alpha":
            facts.append("the measured phase: the zero of all energies")
        else:
            facts.append(f"{points[key]:+.0f} meV with {SINGLE_POINT}, atoms as printed")
            dft = rows[key]["gpaw_mev_above_alpha"]
            facts += [] if dft is None else [f"{dft:+.0f} meV in PBE, atoms as printed"]
            facts += _relaxed_words(rows[key])
        entries.append(GalleryEntry(key, titles.get(key, "α-NaNH2, Fddd (Z = 16)"), structure, tuple(facts), cifs[key]))
    return entries


def best_entries(run: Run) -> list[GalleryEntry]:
    """The run's lowest crystals, as many as its ranking keeps as files."""
    table = ranked_table(run)
    zero = relaxed_reference(run).energy_final
    potential = run.config.relaxation.potential
    rows = table.frame.head(run.config.ranking.top).to_dict("records")
    entries = []
    for row, structure in zip(rows, table.structures, strict=False):
        group = space_group_of(structure)
        symbol = "no space group" if group is None else group[0]
        facts = (
            _cell_words(structure),
            f"{1000 * (row['ev_per_fu'] - zero):+.1f} meV with {potential}, relaxed like α",
            f"found by: {'; '.join(finders(run, table, str(row['id'])))}",
        )
        title = f"Rank {row['rank']}: {symbol} (Z = {formula_units(structure)})"
        entries.append(GalleryEntry(f"rank-{int(row['rank']):02d}", title, structure, facts, structure_cif(structure)))
    return entries


def _cell_words(structure: Any) -> str:
    group = space_group_of(structure)
    symmetry = "no space group found" if group is None else f"{group[0]} (No. {group[1]})"
    return f"{symmetry}, {structure.volume / formula_units(structure):.1f} A^3 per formula unit"


def _relaxed_words(row: Mapping[str, Any]) -> list[str]:
    heights = {name: entry.get("mev_above_alpha") for name, entry in row["relaxed"].items()}
    return [f"{height:+.0f} meV with {name}, relaxed" for name, height in heights.items() if height is not None]

"""What is relaxed how, and where results stand."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any

from nanh2lib.files import write_atomically
from nanh2lib.pipeline.run import read_json
from nanh2lib.relaxation import AtomsSettings, RelaxationSettings, ReleaseSettings, RigidSettings
from nanh2lib.report.evidence import EVIDENCE_FOLDER
from nanh2lib.search.lattice_prior import ALPHA_CELL
from nanh2lib.settings import package_version

RESULTS = Path(__file__).resolve().parents[2] / EVIDENCE_FOLDER
WORK = Path("results/published-tables")

POTENTIALS = ("sevennet-0", "chgnet", "sevennet-l3i5")
QUICK, BETTER = "chgnet", "sevennet-0"
"""Large cells are searched with the quick potential and what it finds is confirmed with the better one. The small
structures of Table S1 are searched with the better one: in the quick one two of them are no minima."""

FULL_ATOMS = AtomsSettings(fmax=0.01, max_stress=0.05, max_evaluations=300)
FREE_SEARCH = RelaxationSettings(
    potential=BETTER, rigid=RigidSettings(cell="free", fmax=0.1, max_stress=0.5), atoms=AtomsSettings()
)
CLAMPED_SEARCH = RelaxationSettings(potential=QUICK, rigid=RigidSettings(cell="fixed"), atoms=None)
SEARCHES = {"free": FREE_SEARCH, "printed": CLAMPED_SEARCH}
KICK = ReleaseSettings(max_evaluations=200)

VOLUME_PER_FORMULA_UNIT = ALPHA_CELL[0] * ALPHA_CELL[1] * ALPHA_CELL[2] / 16
"""A^3: what experiment would know; free cells are drawn within 15 % of it."""
VOLUME_TOLERANCE = 0.15

SYMPRECS = (0.01, 0.05, 0.1)
"""A: a relaxed crystal comes back to a flat minimum only within its convergence limits."""

SEARCH_COLUMNS = (
    "key", "cell", "method", "seed", "number", "sample_id", "template", "units", "evaluations", "energy_start",
    "energy_final", "volume_per_fu", "space_group", "converged", "flags", "mev_from_published", "rms", "found", "date",
    "potential",
)  # fmt: skip
"""One row a relaxation. ``key``: the published structure that is looked for; ``cell``: "free" or "printed". Energies:
eV per formula unit with ``potential``. ``mev_from_published``: minus the published structure relaxed alike. ``rms``:
of a match with it, in mean spacings, looked for within 20 meV. ``found``: match, same group (0.1 A), within 5 meV."""


def search_relaxation(cell: str, potential: str) -> RelaxationSettings:
    """How finds of a search are relaxed, and the published structure beside them."""
    return SEARCHES[cell].model_copy(update={"potential": potential})


def full_relaxation(potential: str) -> RelaxationSettings:
    """All atoms and the cell, space group kept, from the geometry as it stands."""
    return RelaxationSettings(potential=potential, rigid=None, atoms=FULL_ATOMS)


def read_rows(path: Path) -> dict[str, Any]:
    """Content of a file of entries; empty where there is none yet."""
    return dict(read_json(path)) if path.exists() else {}


def write_entries(path: Path, command: str, config: dict[str, Any], rows: dict[str, Any]) -> None:
    """Write entries with what made them; each entry carries its own date and version."""
    import json

    content = {"command": command, "config": config, "rows": rows}
    write_atomically(path, (json.dumps(content, indent=1, sort_keys=True, allow_nan=False) + "\n").encode())


def stamp() -> dict[str, str]:
    """Date and version of an entry."""
    return {"date": datetime.date.today().isoformat(), "version": package_version()}

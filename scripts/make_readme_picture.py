"""Draw the picture of the README: one crystal of the shipped dataset, as the search found it and as it ended.

    .venv/bin/python scripts/make_readme_picture.py

The dataset is the outcome of a run (its command, configuration and seed are in ``nanh2lib/data/dataset.json``). Of the
entries whose relaxation ended in alpha-NaNH2 the one that began highest is taken. Writes ``book/_static/run.png`` and
prints the sentence that stands under it.
"""

from __future__ import annotations

from pathlib import Path

from nanh2lib import load_dataset
from nanh2lib.ranking import matches
from nanh2lib.report.published import reference_structure
from nanh2lib.report.reference_energies import reference_energies
from nanh2lib.report.views import film_strip
from nanh2lib.store.dataset import read_manifest

ROOT = Path(__file__).resolve().parent.parent
TARGET = ROOT / "book" / "_static" / "run.png"
FDDD = 70
POTENTIAL = "chgnet"  # that of relaxed_fixed in the dataset
WINDOW = 0.03  # eV per formula unit: relaxed as rigid units, alpha itself lies a little higher


def main() -> None:
    alpha = reference_structure("alpha")
    zero = reference_energies(POTENTIAL)["alpha"]
    ended = [e for e in load_dataset() if e.relaxed_fixed is not None and e.relaxed_fixed.space_group_after == FDDD]
    ended = [e for e in ended if abs(e.relaxed_fixed.energy_final - zero) < WINDOW]
    ended.sort(key=lambda e: (-e.relaxed_fixed.energy_start, e.id))
    entry = next(e for e in ended if matches(e.relaxed_fixed.structure, alpha) is not None)
    relaxed = entry.relaxed_fixed
    start, end = (1000 * (energy - zero) for energy in (relaxed.energy_start, relaxed.energy_final))
    labels = [f"as found: {start:.0f} meV above alpha", f"relaxed: {end:.0f} meV"]
    picture = film_strip([entry.structure, relaxed.structure], labels=labels)
    picture.save(TARGET)
    template, run = entry.asymmetric_unit.template.label, read_manifest()
    print(f"alt: {picture.alt}")
    print(
        f"Entry {entry.id[:6]} of the shipped dataset ({run['command']}), template {template}: as the random search "
        f"left it, {start:.0f} meV per formula unit above alpha-NaNH2 ({POTENTIAL}), and after "
        f"{relaxed.evaluations} energy calls with rigid units in the fixed cell, {end:+.0f} meV."
    )


if __name__ == "__main__":
    main()

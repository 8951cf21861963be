"""GPAW single points of the eight published structures and alpha, resumable, one JSON file.

Usage: python scripts/gpaw_published.py [--cutoff 400] [--k-spacing 0.4] [--out benchmarks/results/gpaw_published.json]
Finished structures are kept; a killed run goes on with the next one.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import time
from pathlib import Path
from typing import Any

from nanh2lib.energy.gpaw_calculator import k_mesh
from nanh2lib.energy.potentials import get_calculator
from nanh2lib.report.published import published_structures, reference_structure


def main() -> None:
    """Compute what is missing, smallest cells first."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cutoff", type=float, default=400.0)
    parser.add_argument("--k-spacing", type=float, default=0.4)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/gpaw_published.json"))
    options = parser.parse_args()
    rows: dict[str, Any] = json.loads(options.out.read_text()) if options.out.exists() else {}
    crystals = {item.key: item.structure for item in published_structures()}
    crystals["alpha"] = reference_structure("alpha")
    settings = {"cutoff": options.cutoff, "k_spacing": options.k_spacing}
    label = "pw{cutoff:g}-k{k_spacing:g}".format(**settings)
    primitive = {key: crystal.get_primitive_structure() for key, crystal in crystals.items()}
    for key in sorted(primitive, key=lambda name: len(primitive[name])):
        if label in rows.get(key, {}):
            continue
        crystal = primitive[key]
        atoms = crystal.to_ase_atoms()
        atoms.calc = get_calculator("gpaw", **settings)
        start = time.perf_counter()
        energy = float(atoms.get_potential_energy())
        formula_units = len(crystal) // 4
        rows.setdefault(key, {})[label] = {
            "total_energy_ev": energy,
            "ev_per_fu": energy / formula_units,
            "atoms": len(crystal),
            "k_mesh": list(k_mesh(crystal.lattice.matrix, options.k_spacing)),
            "max_force_ev_per_a": float(abs(atoms.get_forces()).max()),
            "seconds": round(time.perf_counter() - start, 1),
            "date": datetime.date.today().isoformat(),
            "settings": settings,
            "geometry": "as printed, errata applied" if key != "alpha" else "shipped reference structure",
        }
        temporary = options.out.with_suffix(".tmp")
        temporary.write_text(json.dumps(rows, indent=1, sort_keys=True) + "\n")
        os.replace(temporary, options.out)


if __name__ == "__main__":
    main()

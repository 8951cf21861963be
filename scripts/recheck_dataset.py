"""Check the shipped dataset's relaxations by today's rules and write it again; no number changes.

    python scripts/recheck_dataset.py

What is set anew: the flag ``broken_fragment`` of relaxations whose molecules broke or fused. The manifest
then says which flags were added, and what of the dataset comes out again on this machine's processor: the
first crystals of each setting, bit by bit, and some energies. Running it twice changes nothing more.
"""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from typing import Any

from nanh2lib.config import load_config
from nanh2lib.crystal.connectivity import find_fragments
from nanh2lib.crystal.expansion import expand_tensors
from nanh2lib.crystal.rigid_unit import NA, NH2
from nanh2lib.energy.labels import EnergyResult, label_structures
from nanh2lib.records import Candidate, RelaxationResult
from nanh2lib.relaxation.quality import broken_fragments, fused_units
from nanh2lib.relaxation.settings import FragmentLimits
from nanh2lib.report.dataset import dataset_account
from nanh2lib.search.random_search import random_search
from nanh2lib.settings import processor
from nanh2lib.store.codec import Record, record_to_candidate
from nanh2lib.store.dataset import DATASET_FILE, data_directory, read_manifest, write_dataset
from nanh2lib.store.extxyz import read_records

FLAG = "broken_fragment"
PER_SETTING = 8
LABELLED = 20


def is_broken(entry: Candidate, result: RelaxationResult) -> bool:
    """Whether molecules of a relaxation broke or fused; its sites have the order of the entry's."""
    if result.stage == "rigid_fixed" and result.asymmetric_unit is not None:
        return bool(fused_units(result.structure, expand_tensors(result.asymmetric_unit).unit_index.tolist()))
    fragments = tuple(find_fragments(entry.structure))
    units = tuple(NH2 if len(fragment.indices) == 3 else NA for fragment in fragments)
    return bool(broken_fragments(result.structure, fragments, units, FragmentLimits()))


def set_flags(records: Sequence[Record]) -> dict[str, list[str]]:
    """Add the flag to records in place; ids by the name of the relaxation."""
    added: dict[str, list[str]] = {}
    for record in records:
        entry = record_to_candidate(record)
        for key, result in entry.relaxations.items():
            if is_broken(entry, result) and FLAG not in result.flags:
                record["relaxations"][key]["flags"] = [*result.flags, FLAG]
                added.setdefault(key, []).append(entry.id)
    return added


def searched_again(entries: Sequence[Candidate]) -> dict[str, Any]:
    """How many of the first crystals of each setting this machine makes again, and how many to the bit."""
    shipped = {entry.id: entry.asymmetric_unit for entry in entries}
    settings = load_config("full").search.model_copy(update={"per_setting": PER_SETTING})
    compared = identical = 0
    for candidate in random_search(settings, progress=False):
        made, known = candidate.asymmetric_unit, shipped.get(candidate.id)
        if made is not None and known is not None:
            compared += 1
            parts = ("lattice_parameters", "frac_origins", "rotations")
            identical += all(getattr(made, name).equal(getattr(known, name)) for name in parts)
    return {"compared": compared, "identical": identical, "processor": processor()}


def labelled_again(entries: Sequence[Candidate]) -> dict[str, Any]:
    """Largest difference between shipped energies and those of this machine, eV per formula unit."""
    found: dict[str, Any] = {"compared": LABELLED, "processor": processor()}
    some = {entry.id: entry for entry in entries[:LABELLED]}
    for potential in ("chgnet", "sevennet-0"):
        labels = label_structures({key: e.structure for key, e in some.items()}, potential, progress=False)
        found[potential] = max(
            abs(label.energy_per_fu - some[key].energies[potential])
            for key, label in labels.items()
            if isinstance(label, EnergyResult)
        )
    return found


def main() -> None:
    """Rewrite the shipped file and its manifest."""
    path = data_directory() / DATASET_FILE
    records, manifest = read_records(path), read_manifest()
    added = set_flags(records)
    entries = [record_to_candidate(record) for record in records]
    structures, energies = searched_again(entries), labelled_again(entries)
    if structures["identical"] == structures["compared"]:
        manifest["processor"] = structures["processor"]
    manifest["made_on"] = {
        "structures": structures,
        "energies and relaxations": "processor not recorded",
        "energies again": energies,
    }
    if added:
        manifest["checked_again"] = {
            "command": "python scripts/recheck_dataset.py",
            "date": datetime.date.today().isoformat(),
            "flags_added": {FLAG: added},
        }
    manifest["account"] = dataset_account(entries)
    write_dataset(records, path, manifest)


if __name__ == "__main__":
    main()

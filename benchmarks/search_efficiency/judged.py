"""What is judged: templates, relaxer, columns of the tables."""

from __future__ import annotations

from pathlib import Path

from nanh2lib.crystal.asymmetric_unit import Template
from nanh2lib.crystal.extraction import extract_asymmetric_unit
from nanh2lib.errors import InputError
from nanh2lib.pipeline.draws import general_template
from nanh2lib.ranking import DuplicateSettings
from nanh2lib.relaxation.settings import RelaxationSettings, RigidSettings
from nanh2lib.report.published import reference_structure

RESULTS = Path(__file__).resolve().parents[1] / "results" / "search_efficiency"

JUDGED = {"P2_1": 6, "P2_12_12_1": 115, "P-1": 2, "C2": 16, "P2_1/c": 81}
"""Hall numbers; all units on general positions of the alpha cell. P2_1/c cannot hold alpha."""

EASY = {"Fddd": 335, "F2dd": 213, "Fdd2": 212}
"""Hall numbers of the easy end: alpha's own template, and one unit of each kind on general positions. Few numbers
place these crystals, so anything finds what is there; nothing of them is pooled or compared with the judged. F2dd holds
alpha (whose units lie on axes along b and c), Fdd2 does not (NH2 would have to be on two special positions)."""

TAKEN_APART = ("guide-", "part-")
"""Variants whose names begin so are one model with one part changed, without learned descent or screening: short
series, compared with each other."""

HOLDS_ALPHA = ("P2_1", "P2_12_12_1", "P-1", "C2", "Fddd", "F2dd")

RELAXATION = RelaxationSettings(potential="chgnet", rigid=RigidSettings(cell="fixed"), atoms=None)

RULES = DuplicateSettings(energy_window=0.01, amd_window=0.3, same_space_group=False)
"""Which crystals are one."""

METHODS = ("random", "paper", "paper_guided", "geometric", "geometric_heldout", "pyxtal")

GROUP = ["method", "variant", "held_out"]
"""Columns that tell methods apart."""

RELAXATION_COLUMNS = (
    "method", "variant", "held_out", "seed", "template", "hall_number", "units", "sample_id", "valid_before",
    "evaluations", "screening", "energy_start", "energy_final", "converged", "matches_alpha", "duplicate_of",
    "in_training",
)  # fmt: skip
"""One row a relaxation. ``screening``: energy calls spent on making this crystal (guide ``physics``) or choosing it
among others, beside the ``evaluations`` of its relaxation; those of a batch are spread evenly over its rows.
Energies: eV per formula unit, empty where the relaxation failed. ``duplicate_of``: sample_id of an earlier row of the
same method, variant, held_out and template that is the same crystal. ``in_training``: "no", "yes", or "held_out" for
crystals of the dataset that held-out models have not seen."""

SAMPLE_COLUMNS = (
    "method", "variant", "held_out", "seed", "template", "batch", "drawn", "valid", "valid_at_0.7", "symmetry",
    "proposed", "seconds", "training_evaluations",
)  # fmt: skip
"""One row a batch of proposals: raw samples, how many pass both filters at the full limits and at 0.7 of them, how
many have the group of the template, how many were proposed for relaxation (after push-apart and, with oversampling,
the choice by predicted energy), CPU seconds of the main process, and energy calls spent on the model's training set."""


def is_short(template: str, variant: str) -> bool:
    """Whether rows stand outside the comparison of methods: an easy template, or a model taken apart."""
    return template in EASY or variant.startswith(TAKEN_APART)


def judged_template(name: str) -> Template:
    """The judged or easy template of a name.

    Raises
    ------
    InputError
        No such template.
    """
    hall_number = {**JUDGED, **EASY}.get(name)
    if hall_number is None:
        raise InputError(f"template {name!r}: choose one of {', '.join([*JUDGED, *EASY])}")
    if name == "Fddd":  # its general position is too large for the cell: the sites are alpha's
        return extract_asymmetric_unit(reference_structure("alpha")).template
    return general_template(hall_number)

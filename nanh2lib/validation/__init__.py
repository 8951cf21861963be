"""Filters of generated and relaxed crystals: contacts, symmetry, fragments; what cannot be measured has failed."""

from __future__ import annotations

from nanh2lib.validation.cells import independent_atoms
from nanh2lib.validation.contacts import ContactTable, contact_filter, shortest_contacts
from nanh2lib.validation.report import ValidationSettings, validate, validate_structures
from nanh2lib.validation.symmetry import SymmetryFinding, find_symmetry

__all__ = [
    "ContactTable",
    "SymmetryFinding",
    "ValidationSettings",
    "contact_filter",
    "find_symmetry",
    "independent_atoms",
    "shortest_contacts",
    "validate",
    "validate_structures",
]

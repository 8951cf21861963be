"""Filters of generated and relaxed crystals: contacts, symmetry, fragments; what cannot be measured has failed."""

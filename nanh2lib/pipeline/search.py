"""Random symmetric search of a run, each candidate checked and kept."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator
from importlib import metadata
from typing import Any

from nanh2lib.crystal.asymmetric_unit import AsymmetricUnit
from nanh2lib.crystal.rigid_unit import SODIUM_AMIDE, Compound
from nanh2lib.pipeline.run import Run, stage
from nanh2lib.records import Candidate, ValidationReport
from nanh2lib.search.compounds import load_compound
from nanh2lib.search.random_search import RandomSearch
from nanh2lib.validation import validate

RANDOM_SEARCH = "random_search"
BATCH = 200


def package_version() -> str:
    """Version of the installed package."""
    try:
        return metadata.version("nanh2lib")
    except metadata.PackageNotFoundError:
        return "unknown"


def candidate_id(*parts: object) -> str:
    """Stable key of a candidate: hash of the method, the settings and its place in the run."""
    return hashlib.sha256("/".join(str(part) for part in parts).encode()).hexdigest()[:20]


def compound_of(run: Run) -> Compound:
    """The compound that a run is about."""
    return load_compound(run.config.compound) if run.config.compound else SODIUM_AMIDE


def candidates_of(run: Run, *methods: str) -> Iterator[Candidate]:
    """Candidates of the run made by the given methods (all without), in the order of their ids."""
    for method in methods or (None,):
        yield from run.store.iterate(method=method)

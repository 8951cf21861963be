"""The candidate database: an ASE database (SQLite file, or PostgreSQL by URL) with provenance."""

from nanh2lib.store.candidate_store import CandidateStore
from nanh2lib.store.codec import Label

__all__ = ["CandidateStore", "Label"]

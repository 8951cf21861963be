"""Exceptions of the package: each message carries the value, the place and the way out."""

from __future__ import annotations


class Nanh2Error(Exception):
    """Base of every error that a user can meet; the CLI prints it as one line.

    Attributes
    ----------
    exit_code : int
        Exit status of the CLI: 1 for a failure, 2 for bad input (usage).
    """

    exit_code: int = 1


class InputError(Nanh2Error, ValueError):
    """Something the user gave (file, setting, structure, name) cannot be used."""

    exit_code = 2


class ComputationError(Nanh2Error, RuntimeError):
    """A computation ended without a usable number (NaN energy, SCF that does not converge)."""


class CheckpointError(Nanh2Error):
    """A model checkpoint is truncated, foreign, or made for another architecture."""


class StoreError(Nanh2Error):
    """The candidate store is missing, of another version, or cannot be written."""


class MissingDependencyError(Nanh2Error, ImportError):
    """An optional package is not installed; the message says what to install."""

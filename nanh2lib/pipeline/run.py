"""A run: one folder with its configuration, candidate store, models and the record of finished stages."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nanh2lib.config import RunConfig, load_config
from nanh2lib.crystal.compounds import (
    compound_from_settings,
    load_compound,
    read_compound_settings,
)
from nanh2lib.crystal.rigid_unit import SODIUM_AMIDE, Compound
from nanh2lib.errors import InputError, StoreError
from nanh2lib.files import write_atomically
from nanh2lib.store import CandidateStore
from nanh2lib.store.connection import is_postgresql, without_password

CONFIG_FILE = "config.json"
COMPOUND_FILE = "compound.json"
"""The run's own copy of the user's compound: a run folder can be moved, and the user's file may change."""


@dataclass(frozen=True)
class Run:
    """Where a run keeps things.

    Attributes
    ----------
    directory : Path
    config : RunConfig
    progress : bool
        Show progress bars.
    """

    directory: Path
    config: RunConfig
    progress: bool = True

    @property
    def compound(self) -> Compound | None:
        """The user's compound; None: sodium amide."""
        name = self.config.compound
        return None if name is None else load_compound(self.directory / name)

    @property
    def store(self) -> CandidateStore:
        """Candidates with provenance, in an ASE database."""
        return CandidateStore(self.config.store or str(self.directory / "candidates.db"))

    def path(self, *parts: str) -> Path:
        """Path inside the run's folder; parent folders are made."""
        target = self.directory.joinpath(*parts)
        target.parent.mkdir(parents=True, exist_ok=True)
        return target

    def settings_key(self, *parts: str) -> str:
        """Hash of the named parts of the configuration, the seed included."""
        chosen = {part: self.config.model_dump(mode="json")[part] for part in ("seed", *parts)}
        compound = self.compound if "compound" in parts else None
        if compound is not None:  # what it is, not where it stands
            chosen["compound"] = compound.content()
        return hashlib.sha256(json.dumps(chosen, sort_keys=True).encode()).hexdigest()[:16]


def is_run(directory: str | Path) -> bool:
    """Whether a folder holds a run."""
    return (Path(directory) / CONFIG_FILE).is_file()


def open_run(
    directory: str | Path, config: RunConfig | str = "default", *, seed: int | None = None, progress: bool = True
) -> Run:
    """Open the folder of a run, or begin a new one.

    Parameters
    ----------
    directory : path
    config : RunConfig or str
        A configuration, or the name of a profile (``"smoke"``, ``"default"``, ``"full"``).
    seed : int, optional
        Replaces the configuration's seed.
    progress : bool
        Show progress bars.

    Raises
    ------
    InputError
        The folder holds results of another configuration or compound; they are left as they are.
    StoreError
        The folder cannot be written, or the store's URL cannot be read.

    Notes
    -----
    A run keeps to the store and the compound that it began with: later calls need not name them. Of
    the compound it has a copy of its own.
    The store's URL is written down without the password, which PGPASSWORD, ``~/.pgpass`` or the URL
    of each call must give.
    """
    settings = load_config(config) if isinstance(config, str) else config
    if seed is not None:
        settings = settings.model_copy(update={"seed": seed})
    folder = Path(directory)
    record = folder / CONFIG_FILE
    found = _with_defaults(read_json(record), str(record)) if record.exists() else None
    if found is not None and _nothing_done(folder, found):
        found = None
    described = None if settings.compound is None else read_compound_settings(settings.compound)
    given = None if described is None else compound_from_settings(described)
    kept = {"store": _store_url(settings.store, found), "compound": _compound_name(folder, given, found)}
    settings = settings.model_copy(update=kept)
    wanted = settings.model_dump(mode="json")
    wanted["store"] = without_password(settings.store) if settings.store is not None else None
    if found is not None:
        differing = sorted(key for key in {*wanted, *found} if wanted.get(key) != found.get(key))
        if differing:
            raise InputError(
                f"{record}: this run was made with other settings ({', '.join(differing)} differ); "
                "give another folder (--run DIR) or remove this one"
            )
    else:
        if described is not None:
            write_json(folder / COMPOUND_FILE, described.model_dump(mode="json"))
        write_json(record, wanted)
    return Run(folder, settings, progress)


def _nothing_done(folder: Path, found: Mapping[str, Any]) -> bool:
    """Whether a run stopped before it made anything, for instance at a setting that turned out not to work."""
    return found.get("store") is None and {path.name for path in folder.iterdir()} <= {CONFIG_FILE, COMPOUND_FILE}


def _compound_name(folder: Path, given: Compound | None, found: Mapping[str, Any] | None) -> str | None:
    """File of the run's compound, as seen from its folder: the recorded one, which a given one must agree with."""
    if found is None:
        return None if given is None else COMPOUND_FILE
    recorded: str | None = found.get("compound")
    if given is None:
        return recorded
    own = None if recorded is None else load_compound(folder / recorded)
    if given.content() != (SODIUM_AMIDE if own is None else own).content():
        raise InputError(
            f"{folder}: this run is about {'sodium amide' if own is None else own.name}, with other units than the "
            f"compound {given.name!r} that was given; give another folder (--run DIR) or remove this one"
        )
    return recorded


def _store_url(given: str | None, found: Mapping[str, Any] | None) -> str | None:
    """Store of a run: the one named, else the one recorded; files by their full path, from wherever it is opened."""
    if given is None:
        return found.get("store") if found is not None else None
    return given if is_postgresql(given) else str(Path(given).absolute())


def _with_defaults(recorded: dict[str, Any], source: str) -> dict[str, Any]:
    """A recorded configuration; settings that did not exist when it was written have their defaults."""
    try:
        return RunConfig.from_mapping(recorded, source).model_dump(mode="json")
    except InputError:  # of another version: compared as it stands
        return recorded


def write_text(path: str | Path, text: str) -> Path:
    """Write a text file atomically.

    Raises
    ------
    StoreError
        The file cannot be written (no permission, full disk); an older version stays as it was.
    """
    try:
        return write_atomically(path, text.encode())
    except OSError as error:
        raise StoreError(
            f"{path}: cannot be written ({error.strerror}); free space or choose another folder"
        ) from error


def write_json(path: str | Path, data: Any) -> Path:
    """Write JSON atomically; NaN is refused, so that every reader can read it."""
    return write_text(path, json.dumps(data, indent=1, sort_keys=True, allow_nan=False) + "\n")


def read_json(path: str | Path) -> Any:
    """Read JSON.

    Raises
    ------
    InputError
        The file is missing or is not JSON.
    """
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file; run the stage that writes it first") from error
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: not readable as JSON ({error}); remove it and run its stage again") from error


def finished(run: Run, stage: str, key: str) -> dict[str, Any] | None:
    """Summary of a stage, when it was finished with exactly these inputs."""
    record = run.directory / "stages" / f"{stage}.json"
    if not record.exists():
        return None
    data = read_json(record)
    return dict(data["summary"]) if data.get("key") == key else None


def stage(run: Run, name: str, key: str, work: Callable[[], Mapping[str, Any]]) -> dict[str, Any]:
    """Do a stage unless it is already done with the same inputs.

    Parameters
    ----------
    run : Run
    name : str
        Name of the stage's record.
    key : str
        Hash of everything the result depends on.
    work : callable
        Does the work (itself resumable) and returns a JSON-able summary.

    Returns
    -------
    dict
        The summary, with ``seconds`` of the run that did the work.
    """
    done = finished(run, name, key)
    if done is not None:
        return done
    begin = time.perf_counter()
    summary = dict(work())
    summary["seconds"] = round(time.perf_counter() - begin, 2)
    write_json(run.path("stages", f"{name}.json"), {"key": key, "summary": summary})
    return summary

"""Options that several commands share, and how they turn into a run."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from nanh2lib.crystal.rigid_unit import Compound
    from nanh2lib.pipeline.run import Run

RunOption = Annotated[
    Path | None,
    typer.Option(
        "--run", help="Folder of the run: store, models, tables. Default: results/<profile>.", show_default=False
    ),
]
ProfileOption = Annotated[
    str, typer.Option("--profile", help="Settings shipped with the package: smoke, default or full.")
]
ConfigOption = Annotated[
    Path | None,
    typer.Option("--config", help="YAML file whose keys replace those of the profile.", show_default=False),
]
SeedOption = Annotated[
    int | None, typer.Option("--seed", min=0, help="Replaces the configuration's seed.", show_default=False)
]
StoreOption = Annotated[
    str | None,
    typer.Option(
        "--store",
        help="Candidate store of a new run: an SQLite file, or postgresql://user@host/name with the password in "
        "PGPASSWORD or ~/.pgpass. Default: a file in the run's folder.",
        show_default=False,
    ),
]
CompoundOption = Annotated[
    Path | None,
    typer.Option(
        "--compound", help="YAML file with the rigid units that the crystals are made of.", show_default=False
    ),
]
RetryOption = Annotated[bool, typer.Option("--retry-failures", help="Try again what failed before.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document to standard output.")]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="No progress bars.")]


def make_run(
    run: Path | None,
    profile: str,
    config: Path | None,
    seed: int | None,
    quiet: bool,
    compound: Path | None = None,
    store: str | None = None,
) -> Run:
    """Open the run that the options describe."""
    from nanh2lib.config import load_config
    from nanh2lib.pipeline.run import open_run

    settings = load_config(profile, config, compound=compound)
    if store is not None:
        settings = settings.model_copy(update={"store": store})
    return open_run(run or Path("results") / profile, settings, seed=seed, progress=not quiet)


def declared_compound(path: Path | None) -> Compound | None:
    """Compound of the option ``--compound``."""
    from nanh2lib.crystal.compounds import load_compound

    return None if path is None else load_compound(path)


def print_json(data: Any) -> None:
    """Write JSON to standard output; NaN becomes null."""
    json.dump(_plain(data), sys.stdout, indent=1, sort_keys=True)
    print()


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, float) and value != value:
        return None
    if hasattr(value, "item"):
        return _plain(value.item())
    return value if isinstance(value, (str, int, float, bool, type(None))) else str(value)


def print_summary(title: str, summary: Mapping[str, Any], as_json: bool) -> None:
    """A stage's summary, as lines or as JSON."""
    if as_json:
        print_json(summary)
        return
    print(title)
    for line in _lines(summary, "  "):
        print(line)


def _lines(data: Mapping[str, Any], indent: str) -> list[str]:
    lines: list[str] = []
    for key, value in data.items():
        name = str(key).replace("_", " ") if str(key).islower() else str(key)
        if isinstance(value, Mapping):
            lines.append(f"{indent}{name}:" if value else f"{indent}{name}: none")
            lines += _lines(value, indent + "  ")
        elif isinstance(value, float):
            lines.append(f"{indent}{name}: {value:.6g}")
        else:
            lines.append(f"{indent}{name}: {value}")
    return lines

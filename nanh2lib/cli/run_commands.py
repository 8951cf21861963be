"""Commands that are stages of a run: search, label, train, sample, relax, rank, reproduce."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from nanh2lib.cli.crystal_commands import read_structures
from nanh2lib.cli.options import (
    CompoundOption,
    ConfigOption,
    JsonOption,
    ProfileOption,
    QuietOption,
    RetryOption,
    RunOption,
    SeedOption,
    StoreOption,
    declared_compound,
    make_run,
    print_json,
    print_summary,
)
from nanh2lib.errors import ComputationError, InputError

ExecutorOption = Annotated[
    str, typer.Option("--executor", help="Where work runs: serial, processes:N, threads:N or dask://HOST:PORT.")
]
OptionalExecutorOption = Annotated[
    str | None,
    typer.Option(
        "--executor",
        help="serial, processes:N, threads:N or dask://HOST:PORT; default: processes:2 for a run, serial for files.",
        show_default=False,
    ),
]
OptionalFiles = Annotated[
    list[Path] | None,
    typer.Argument(help="Crystal files; without them the stage works on the run.", show_default=False),
]
PotentialOption = Annotated[
    str | None,
    typer.Option("--potential", help="sevennet-0, sevennet-l3i5, chgnet, gpaw or module:factory.", show_default=False),
]


def register(app: typer.Typer) -> None:
    """Add the commands to the application."""
    for command in (search, label, train, sample, relax, rank, reproduce):
        app.command()(command)


def search(
    run: RunOption = None,
    profile: ProfileOption = "default",
    config: ConfigOption = None,
    compound: CompoundOption = None,
    store: StoreOption = None,
    seed: SeedOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Random symmetric search: place rigid units on Wyckoff sites and push them apart.

    Examples: `nanh2 search --profile smoke`, `nanh2 search --run lithium --compound linh2.yaml --config search.yaml`
    """
    from nanh2lib.pipeline.search import search_stage, template_counts

    opened = make_run(run, profile, config, seed, quiet, compound, store)
    if not as_json:
        print_summary("Site templates that add up to Z, by setting:", template_counts(opened), False)
    summary = search_stage(opened)
    print_summary(f"Random search into {opened.directory}", summary, as_json)
    if not summary["accepted"]:
        reasons = "; ".join(f"{name}: {why}" for name, why in summary.get("short_of_share", {}).items())
        raise ComputationError(f"{opened.directory}: no draw was accepted ({reasons}); a larger cell has more room")


def label(
    files: OptionalFiles = None,
    run: RunOption = None,
    profile: ProfileOption = "default",
    config: ConfigOption = None,
    potential: PotentialOption = None,
    compound: CompoundOption = None,
    executor: OptionalExecutorOption = None,
    retry_failures: RetryOption = False,
    store: StoreOption = None,
    seed: SeedOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Energies by a named potential, of the run's candidates or of crystal files.

    Examples: `nanh2 label --profile smoke --executor processes:2`, `nanh2 label alpha.cif --potential chgnet`
    """
    from nanh2lib.execution import make_executor
    from nanh2lib.pipeline.labels import label_files, label_stage

    with make_executor(executor or _where(files)) as workers:
        if files:
            rows = label_files(
                files, read_structures(files), potential, workers,
                compound=declared_compound(compound), progress=not quiet,
            )  # fmt: skip
            print_json(rows) if as_json else _print_labels(rows)
            if any(row["ev_per_fu"] is None for row in rows):
                raise typer.Exit(1)
            return
        opened = make_run(run, profile, config, seed, quiet, compound, store)
        summary = label_stage(opened, potential, workers, retry_failures=retry_failures)
        print_summary(f"Labels in {opened.directory}", summary, as_json)
        if not summary["labelled"]:
            raise ComputationError(f"{opened.directory}: no label was made ({_why(summary['reasons'], 'search')})")


def _where(files: list[Path] | None) -> str:
    """A few crystals are done before a worker has loaded its potential."""
    return "serial" if files else "processes:2"


def _why(reasons: Mapping[str, int], before: str) -> str:
    """Reasons with their numbers, or the command that has to come first."""
    listed = "; ".join(f"{count} x {reason}" for reason, count in reasons.items())
    return listed or f"no candidate is there yet; run 'nanh2 {before}' first"


def _print_labels(rows: list[dict[str, Any]]) -> None:
    for row in rows:
        value = (
            f"{row['ev_per_fu']:.4f} eV per formula unit"
            if row["ev_per_fu"] is not None
            else f"failed: {row['reason']}"
        )
        print(f"{row['file']}: {value} ({row['potential']})")


def train(
    run: RunOption = None,
    profile: ProfileOption = "default",
    config: ConfigOption = None,
    store: StoreOption = None,
    seed: SeedOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Train the models that `model: paper` or `model: geometric` in the configuration names; resumable.

    The paper's learn from the run's labelled structures, or from a dataset (`training.dataset: shipped`);
    the geometric one from crystals relaxed in the fixed cell.

    Example: `nanh2 train --profile smoke`
    """
    from nanh2lib.pipeline.generators import train_model

    opened = make_run(run, profile, config, seed, quiet, store=store)
    print_summary(f"Models in {opened.directory / 'models'}", train_model(opened), as_json)


def sample(
    run: RunOption = None,
    profile: ProfileOption = "default",
    config: ConfigOption = None,
    pretrained: Annotated[
        bool, typer.Option("--pretrained", help="With the model that ships with the package: no training.")
    ] = False,
    store: StoreOption = None,
    seed: SeedOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Sample with and without energy guidance, decode, validate, push apart; all kept in the store.

    Examples: `nanh2 sample --profile smoke`, `nanh2 sample --pretrained --run results/shipped`
    """
    from nanh2lib.pipeline.generators import sample_model, use_pretrained

    opened = make_run(run, profile, config, seed, quiet, store=store)
    if pretrained:
        use_pretrained(opened)
    print_summary(f"Samples in {opened.directory}", sample_model(opened), as_json)


def relax(
    files: OptionalFiles = None,
    run: RunOption = None,
    profile: ProfileOption = "default",
    config: ConfigOption = None,
    potential: PotentialOption = None,
    compound: CompoundOption = None,
    executor: OptionalExecutorOption = None,
    out: Annotated[Path, typer.Option("--out", help="Folder for the relaxed CIF files.")] = Path("relaxed"),
    retry_failures: RetryOption = False,
    store: StoreOption = None,
    seed: SeedOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Relax with the space group kept: rigid units first, then all atoms.

    Examples: `nanh2 relax --profile smoke --executor processes:2`, `nanh2 relax mine.cif --potential chgnet`
    """
    from nanh2lib.execution import make_executor
    from nanh2lib.pipeline.refine import relax_files, relax_stage

    with make_executor(executor or _where(files)) as workers:
        if files:
            rows = relax_files(
                files, read_structures(files), potential, out, workers,
                compound=declared_compound(compound), progress=not quiet,
            )  # fmt: skip
            print_summary(f"Relaxed CIF files in {out}", {row["file"]: row for row in rows}, as_json)
            if not all(row["usable"] for row in rows):
                raise typer.Exit(1)
            return
        opened = make_run(run, profile, config, seed, quiet, compound, store)
        summary = relax_stage(opened, workers, retry_failures=retry_failures)
        print_summary(f"Relaxations in {opened.directory}", summary, as_json)
        if not summary["usable"]:
            reasons = {**summary["flags"], **({"failed": summary["failed"]} if summary["failed"] else {})}
            raise ComputationError(f"{opened.directory}: no usable relaxation ({_why(reasons, 'search')})")


def rank(
    run: RunOption = None,
    profile: ProfileOption = "default",
    config: ConfigOption = None,
    store: StoreOption = None,
    seed: SeedOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Remove duplicates, order by energy, write the table, the CIF files and what was left out.

    Example: `nanh2 rank --profile smoke`
    """
    from nanh2lib.pipeline.refine import rank_stage

    opened = make_run(run, profile, config, seed, quiet, store=store)
    summary = rank_stage(opened)
    print_summary(f"Ranking in {opened.directory / 'tables'}", summary, as_json)
    if not summary["different_crystals"]:
        raise ComputationError(f"{opened.directory}: nothing to rank ({_why(summary['left_out'], 'relax')})")


def reproduce(
    what: Annotated[
        str,
        typer.Argument(
            help="'all' (pipeline, then notebooks) or 'tables' (the account of Tables S1-S2: committed evidence, and "
            "what the run in the folder found, if there is one)."
        ),
    ] = "all",
    run: RunOption = None,
    profile: ProfileOption = "default",
    config: ConfigOption = None,
    executor: ExecutorOption = "processes:2",
    store: StoreOption = None,
    seed: SeedOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Run the whole method, then every notebook; a second call goes on where the first stopped.

    Examples: `nanh2 reproduce --profile smoke`, `nanh2 reproduce tables --json`
    """
    from nanh2lib.execution import make_executor
    from nanh2lib.pipeline import reproduce as work
    from nanh2lib.pipeline.run import is_run
    from nanh2lib.report.account import account_text, committed_account

    if what not in ("all", "tables"):
        raise InputError(f"reproduce {what!r}: choose 'all' or 'tables'")
    if what == "tables" and not is_run(run or Path("results") / profile):
        rows = committed_account()
        print_json(rows) if as_json else print(account_text(rows))
        return
    opened = make_run(run, profile, config, seed, quiet, store=store)
    if not as_json and what == "all":
        print(f"Profile {profile}: {work.expected_time(opened)}")
    with make_executor(executor) as workers:
        if what == "tables":
            rows = work.reproduce_tables(opened, workers)
            print_json(rows) if as_json else print(account_text(rows))
            return
        summary = work.reproduce(opened, workers)
    print_summary(f"Results in {opened.directory}", summary, as_json)

"""Commands on datasets: build one, write it for shipping, say what it holds."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nanh2lib.cli.options import (
    ConfigOption,
    JsonOption,
    ProfileOption,
    QuietOption,
    RunOption,
    SeedOption,
    make_run,
    print_summary,
)
from nanh2lib.cli.run_commands import ExecutorOption

if TYPE_CHECKING:
    from nanh2lib.pipeline.run import Run

dataset = typer.Typer(
    help="Build a dataset of labelled and relaxed crystals, write it, or show the shipped one.\n\n"
    "Example: `nanh2 dataset show`",
    no_args_is_help=True,
)
FileOption = Annotated[
    Path | None,
    typer.Option("--from", help="Dataset file whose labels and relaxations are taken over.", show_default=False),
]


def register(app: typer.Typer) -> None:
    """Add the commands to the application."""
    app.add_typer(dataset, name="dataset")


def _run(run: Path | None, profile: str, config: Path | None, seed: int | None, quiet: bool) -> Run:
    return make_run(run or Path("results") / f"dataset-{profile}", profile, config, seed, quiet)


@dataset.command()
def build(
    run: RunOption = None,
    profile: ProfileOption = "full",
    config: ConfigOption = None,
    executor: ExecutorOption = "processes:2",
    start_from: FileOption = None,
    seed: SeedOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Search, choose different crystals, label, relax twice; a second call goes on where the first stopped.

    Profile `full` regenerates the shipped dataset (hours); with `--from` what a file already holds is not
    computed again. The run's folder is results/dataset-<profile> by default.

    Examples: `nanh2 dataset build --profile smoke`,
    `nanh2 dataset build --profile full --from nanh2lib/data/dataset.xyz.gz`
    """
    from nanh2lib.execution import make_executor
    from nanh2lib.pipeline.dataset import dataset_stage

    opened = _run(run, profile, config, seed, quiet)
    if start_from is not None:
        opened.store.import_extxyz(start_from)
    with make_executor(executor) as workers:
        print_summary(f"Dataset in {opened.directory}", dataset_stage(opened, workers), as_json)


@dataset.command()
def export(
    target: Annotated[Path, typer.Argument(help="File to write, its name ending in .xyz.gz.", show_default=False)],
    run: RunOption = None,
    profile: ProfileOption = "full",
    config: ConfigOption = None,
    seed: SeedOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Write a built dataset as compressed extended XYZ with a manifest; a partly built one says so.

    Example: `nanh2 dataset export nanh2lib/data/dataset.xyz.gz`
    """
    from nanh2lib.pipeline.dataset import export_dataset

    opened = _run(run, profile, config, seed, quiet)
    print_summary(f"Written to {target}", export_dataset(opened, target), as_json)


@dataset.command()
def show(
    file: Annotated[Path | None, typer.Argument(help="Dataset file; default: the shipped one.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Say what a dataset holds, after checking it against its manifest.

    Example: `nanh2 dataset show`
    """
    from nanh2lib.report.dataset import dataset_account
    from nanh2lib.store.dataset import load_dataset

    print_summary(f"Dataset {file or 'of the package'}", dataset_account(load_dataset(file)), as_json)

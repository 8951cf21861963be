"""Commands for the book: run the notebooks, build the pages, print the PDF."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nanh2lib.cli.options import JsonOption, QuietOption, SeedOption, print_json

ResultsOption = Annotated[
    Path | None, typer.Option("--run", help="Folder of the run. Default: results/<profile>.", show_default=False)
]


def register(app: typer.Typer) -> None:
    """Add the commands to the application."""
    for command in (notebooks, book, pdf):
        app.command()(command)


def notebooks(
    run: ResultsOption = None,
    profile: Annotated[str, typer.Option("--profile", help="smoke, default or full.")] = "default",
    seed: SeedOption = None,
    only: Annotated[list[str] | None, typer.Option("--only", help="Name of one notebook; may be repeated.")] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Run all of them again.")] = False,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Execute the notebooks with papermill; the executed copies stay in the run's folder.

    Example: `nanh2 notebooks --profile smoke --only 01_published_tables`
    """
    from nanh2lib.config import load_config
    from nanh2lib.report.book import project_root
    from nanh2lib.report.notebooks import run_notebooks
    from nanh2lib.settings import config_hash

    settings = load_config(profile)
    settings = settings if seed is None else settings.model_copy(update={"seed": seed})
    runs = run_notebooks(
        project_root() / "notebooks", run or Path("results") / profile, profile, settings.seed,
        only=only or (), context=config_hash(settings), fresh=fresh, progress=not quiet,
    )  # fmt: skip
    if as_json:
        print_json([{"name": r.name, "path": r.path, "seconds": r.seconds, "reused": r.reused} for r in runs])
        return
    for item in runs:
        print(f"{item.path}")


def book(
    run: ResultsOption = None,
    profile: Annotated[str, typer.Option("--profile", help="smoke, default or full.")] = "default",
    seed: SeedOption = None,
    out: Annotated[Path, typer.Option("--out", help="Folder of the pages.")] = Path("_build/html"),
    as_json: JsonOption = False,
) -> None:
    """Build the book's pages from executed notebooks; any warning is an error.

    Example: `nanh2 book --profile smoke`
    """
    from nanh2lib.report.book import build_book

    index = build_book((run or Path("results") / profile) / "notebooks", out, profile, seed or 0)
    print_json({"book": index}) if as_json else print(f"Book: {index}")


def pdf(
    run: ResultsOption = None,
    profile: Annotated[str, typer.Option("--profile", help="smoke, default or full.")] = "default",
    seed: SeedOption = None,
    out: Annotated[Path, typer.Option("--out", help="PDF file.")] = Path("_build/nanh2-book.pdf"),
    as_json: JsonOption = False,
) -> None:
    """Print the whole book as one PDF with Chromium.

    Example: `nanh2 pdf --profile default`
    """
    from nanh2lib.report.book import print_pdf

    path = print_pdf((run or Path("results") / profile) / "notebooks", out, profile, seed or 0)
    print_json({"pdf": path}) if as_json else print(f"PDF: {path}")

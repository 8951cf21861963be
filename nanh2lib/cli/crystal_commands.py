"""Commands on published data and on crystal files: tables, validate."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from nanh2lib.cli.options import CompoundOption, JsonOption, declared_compound, print_json

WriteOption = Annotated[
    Path | None, typer.Option("--write", help="Write CIF files into this folder.", show_default=False)
]
FilesArgument = Annotated[list[Path], typer.Argument(help="CIF, POSCAR or extended XYZ files.", show_default=False)]


def register(app: typer.Typer) -> None:
    """Add the commands to the application."""
    app.command()(tables)
    app.command()(validate)


def tables(
    check: Annotated[
        bool, typer.Option("--check", help="Recompute what can be recomputed; exit status 1 if something fails.")
    ] = False,
    as_printed: Annotated[bool, typer.Option("--as-printed", help="Without the errata: shows what they mend.")] = False,
    write: WriteOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show Tables S1 and S2, check them, write CIF files.

    Examples: `nanh2 tables`, `nanh2 tables --check`, `nanh2 tables --check --as-printed`,
    `nanh2 tables --write cifs`.
    """
    from nanh2lib.report.check import all_hold, check_published
    from nanh2lib.report.cif import write_cifs

    if write is not None:
        paths = write_cifs(write, as_printed=as_printed)
        if not (check or as_json):
            print(f"{len(paths)} CIF files in {write}")
            return
    if check:
        rows = check_published(as_printed=as_printed)
        if as_json:
            print_json([row.to_dict() for row in rows])
        else:
            _print_rows("Tables S1 and S2: printed and found", [row.to_dict() for row in rows])
        if not all_hold(rows):
            raise typer.Exit(1)
        return
    _show_tables(as_printed, as_json)


def _show_tables(as_printed: bool, as_json: bool) -> None:
    from nanh2lib.report.published import published_structures

    items = published_structures()
    if as_json:
        print_json([_summary(item) for item in items])
        return
    for item in items:
        printed = item.printed if as_printed else item.corrected
        print(f"Table {item.table}: {item.space_group} (Z = {item.z})")
        print("a, b, c            " + "  ".join(printed.lengths))
        print("alpha, beta, gamma " + "  ".join(printed.angles))
        for row in printed.rows:
            print(f"  {row.element + '(' + row.label + ')':<8}" + "  ".join(f"{c:>8}" for c in (row.x, row.y, row.z)))
        for erratum in item.errata:
            changed = f"{erratum.field} printed {erratum.printed}, holds {erratum.holds}"
            print(f"  {erratum.kind}: {erratum.evidence if erratum.kind == 'remark' else changed}")
        print()


def _summary(item: Any) -> dict[str, Any]:
    return {
        "key": item.key,
        "table": item.table,
        "space_group": item.space_group,
        "z": item.z,
        "cell": list(item.structure.lattice.parameters),
        "errata": [erratum.field for erratum in item.errata],
    }


def _print_rows(title: str, rows: list[dict[str, Any]]) -> None:
    """A table for reading; wide terminals show it whole."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title)
    for column in rows[0] if rows else []:
        table.add_column(column.replace("_", " "), overflow="fold")
    for row in rows:
        table.add_row(*(str(value) for value in row.values()))
    Console().print(table)


def read_structures(files: list[Path]) -> list[Any]:
    """Structures of crystal files.

    Raises
    ------
    InputError
        A file is missing, or is not a crystal.
    """
    from nanh2lib.crystal.files import read_structure

    return [read_structure(path) for path in files]


def validate(
    files: FilesArgument,
    config: Annotated[
        Path | None, typer.Option("--config", help="YAML file with validation settings.", show_default=False)
    ] = None,
    space_group: Annotated[
        str | None,
        typer.Option(
            "--space-group", help="Space group that the crystal must have (symbol or number).", show_default=False
        ),
    ] = None,
    compound: CompoundOption = None,
    stage: Annotated[str, typer.Option("--stage", help="Limits of 'generated' or of 'relaxed' crystals.")] = "relaxed",
    as_json: JsonOption = False,
) -> None:
    """Check crystal files: contacts, symmetry, whole fragments. Exit status 1 if one fails.

    Example: `nanh2 tables --write cifs; nanh2 validate cifs/S2-P21c.cif --space-group P2_1/c`
    """
    from nanh2lib.settings import read_yaml
    from nanh2lib.validation import ValidationSettings, validate_structures

    data = {"stage": stage, **(read_yaml(config) if config else {})}
    settings = ValidationSettings.from_mapping(data, str(config or "--stage"))
    structures = read_structures(files)
    reports = validate_structures(structures, settings, space_group=space_group, compound=declared_compound(compound))
    rows = [
        {"file": str(path), "formula": s.composition.reduced_formula, "passed": r.passed, "reason": r.reason}
        for path, s, r in zip(files, structures, reports, strict=True)
    ]
    if as_json:
        print_json([{**row, "checks": r.to_dict()["checks"]} for row, r in zip(rows, reports, strict=True)])
    else:
        _print_rows(f"Validation at the limits of {settings.stage} crystals", rows)
    if not all(report.passed for report in reports):
        raise typer.Exit(1)

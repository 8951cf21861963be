"""Command line of the study; see the package."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from benchmarks.published_tables.confirming import confirm
from benchmarks.published_tables.modelling import model_method, starts_of
from benchmarks.published_tables.relaxations import kick_published, relax_published
from benchmarks.published_tables.searching import Task, run_series
from benchmarks.published_tables.settings import POTENTIALS, RESULTS, SEARCHES, WORK
from benchmarks.published_tables.summary import write_summary

PLAN = Path(__file__).with_name("plan.txt")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.published_tables",
        description="Tables S1 and S2 relaxed, kicked and searched for; every command goes on where it stopped.",
    )
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the tables")
    parser.add_argument("--work", type=Path, default=WORK, help="folder of the relaxed crystals of the searches")
    commands = parser.add_subparsers(dest="command", required=True)
    relax = commands.add_parser("relax", help="all atoms and cell, from the printed coordinates")
    relax.add_argument("--potential", choices=POTENTIALS, required=True)
    kick = commands.add_parser("kick", help="symmetry released after a small kick")
    again = commands.add_parser("confirm", help="the lowest finds of each search, relaxed with the better potential")
    for command in (relax, kick, again):
        command.add_argument("--key", action="append", default=[], help="only these (repeat the option)")
    search = commands.add_parser("search", help="random search in the printed setting")
    search.add_argument("--cell", choices=sorted(SEARCHES), required=True)
    search.add_argument("--potential", choices=POTENTIALS, help="default: SevenNet-0 for free cells, CHGNet for others")
    near = commands.add_parser("displace", help="rigid units of the printed structure moved, pushed apart, relaxed")
    near.add_argument("--distance", type=float, required=True, help="root mean square displacement, A")
    model = commands.add_parser("model", help="proposals of the geometric model in the printed cell")
    model.add_argument("--learn", type=int, default=0, help="relaxations of the random search there to learn from")
    for command in (search, near, model):
        command.add_argument("--key", required=True, help="published structure, e.g. S2-P21c")
        command.add_argument("--seed", type=int, default=0)
        command.add_argument("--count", type=int, required=True, help="relaxations in all")
    commands.add_parser("summary", help="compute summary.json from the results")
    plan = commands.add_parser("plan", help="the commands of plan.txt one after the other")
    plan.add_argument("--file", type=Path, default=PLAN)
    return parser


def _lines(arguments: argparse.Namespace) -> Iterator[str]:
    folder, work = arguments.results, arguments.work
    if arguments.command == "relax":
        return relax_published(folder, arguments.potential, tuple(arguments.key))
    if arguments.command == "kick":
        return kick_published(folder, tuple(arguments.key))
    if arguments.command == "confirm":
        return confirm(folder, work, tuple(arguments.key))
    task = Task(arguments.key, "printed", _method(arguments), arguments.seed, folder, work)
    if arguments.command == "search":
        potential = arguments.potential or SEARCHES[arguments.cell].potential
        task = replace(task, cell=arguments.cell, potential=potential)
    return run_series(task, starts_of(task, arguments.count))


def _method(arguments: argparse.Namespace) -> str:
    if arguments.command == "model":
        return model_method(arguments.learn)
    return "random_search" if arguments.command == "search" else f"displaced-{arguments.distance:g}"


def _steps(path: Path) -> list[list[str]]:
    """Arguments of each line of a plan; empty lines and comments say nothing."""
    lines = (line.partition("#")[0].split() for line in path.read_text(encoding="utf-8").splitlines())
    return [line for line in lines if line]


def main(words: Sequence[str] | None = None) -> None:
    arguments = _parser().parse_args(words)
    if arguments.command == "plan":
        places = ["--results", str(arguments.results), "--work", str(arguments.work)]
        for step in _steps(arguments.file):
            print("==", *step, flush=True)
            main([*places, *step])
        return
    if arguments.command == "summary":
        print(json.dumps(write_summary(arguments.results), indent=1))
        return
    for line in _lines(arguments):
        print(line, flush=True)


if __name__ == "__main__":
    main()

"""Command line of the study; see the package."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from benchmarks.search_efficiency.ablation import EPOCHS, PARTS, train_part
from benchmarks.search_efficiency.batches import settle
from benchmarks.search_efficiency.confirming import FILE, TOP, confirm
from benchmarks.search_efficiency.judged import EASY, JUDGED, METHODS, RESULTS, judged_template
from benchmarks.search_efficiency.proposals import Proposer, make_proposer
from benchmarks.search_efficiency.raw_samples import judge_raw_samples
from benchmarks.search_efficiency.runner import execute, refresh
from benchmarks.search_efficiency.study import Study, known_crystals
from benchmarks.search_efficiency.summary import write_summary
from nanh2lib.config import RunConfig, load_config
from nanh2lib.execution import make_executor
from nanh2lib.pipeline.run import write_json


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.search_efficiency", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run", help="propose and relax until count rows are there")
    raw = commands.add_parser("validity", help="judge count raw samples, relax nothing")
    for command in (run, raw):
        _add_proposer(command)
    again = commands.add_parser("refresh", help="compare all finds anew with each other and the dataset")
    again.add_argument("--only", action="append", default=[], metavar="ID", help="rows whose sample ids begin so")
    sure = commands.add_parser("confirm", help="relax the best finds of each method with another potential")
    sure.add_argument("--top", type=int, default=TOP, help="finds of each method and template")
    sure.add_argument("--executor", default="serial")
    for command in (run, again):
        command.add_argument(
            "--dataset",
            default="shipped",
            help="what models learned from: shipped, a run folder, or none (then refresh later)",
        )
    for command in (run, again, raw, sure):
        command.add_argument("--work", type=Path, default=Path("results/search-efficiency"), help="relaxed crystals")
        command.add_argument("--profile", default="default")
    parts = commands.add_parser("parts", help="train score networks with one part left out each")
    parts.add_argument("--part", action="append", choices=PARTS, default=[], help="default: all of them")
    parts.add_argument("--models", type=Path, default=Path("results/search-efficiency-parts"), help="checkpoints")
    parts.add_argument("--epochs", type=int, default=EPOCHS)
    end = commands.add_parser("summary", help="compute summary.json from whole batches")
    for command in (run, again, raw, sure, end):
        command.add_argument("--results", type=Path, default=RESULTS, help="folder of the tables")
    return parser


def _add_proposer(run: argparse.ArgumentParser) -> None:
    run.add_argument("--method", choices=METHODS, required=True)
    run.add_argument("--template", choices=(*JUDGED, *EASY), required=True)
    run.add_argument("--seed", type=int, default=0)
    run.add_argument("--count", type=int, default=100)
    run.add_argument("--variant", default="default", help="name of these settings in the tables")
    run.add_argument("--models", type=Path, help="checkpoint (.json)")
    run.add_argument("--guide", choices=("none", "paper", "noised", "x0", "physics"), default="none")
    run.add_argument("--steering", action="store_true", help="resample populations by predicted energy")
    run.add_argument("--oversample", type=int, default=1, help="raw samples a proposal, chosen by predicted energy")
    run.add_argument("--downhill", action="store_true", help="go downhill on the learned potential first")
    run.add_argument("--screen", type=int, default=1, help="candidates a proposal, chosen by one call each")
    run.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="sampling setting (JSON value)")
    run.add_argument("--executor", default="serial")


def _changes(items: list[str]) -> dict[str, Any]:
    pairs = (item.split("=", 1) for item in items)
    return {key: json.loads(value) for key, value in pairs}


def main() -> None:
    arguments = _parser().parse_args()
    if arguments.command == "summary":
        settle(arguments.results)
        print(json.dumps(write_summary(arguments.results)["templates"], indent=1))
        return
    if arguments.command == "parts":
        for part in arguments.part or PARTS:
            print(train_part(part, arguments.models, epochs=arguments.epochs))
        return
    config = load_config(arguments.profile)
    study = Study.open(arguments.results, arguments.work, config)
    if arguments.command == "confirm":
        with make_executor(arguments.executor) as executor:
            print(f"{confirm(study, arguments.top, executor)} rows added to {study.results / FILE}")
        return
    if arguments.command == "validity":
        row = judge_raw_samples(
            study.results, _proposer(arguments, config, study), arguments.template, arguments.count, arguments.seed
        )
        print(json.dumps(row, indent=1))
        return
    known = known_crystals(study, None if arguments.dataset == "none" else arguments.dataset)
    write_json(study.results / "alpha.json", {"energy_ev_per_fu": known.alpha.energy_final})
    if arguments.command == "refresh":
        print(f"{refresh(study, known, arguments.only)} rows changed in {study.relaxations}")
        return
    proposer = _proposer(arguments, config, study)
    with make_executor(arguments.executor) as executor:
        added = execute(
            study, proposer, arguments.template, judged_template(arguments.template),
            seed=arguments.seed, count=arguments.count, known=known, executor=executor,
        )  # fmt: skip
    print(f"{added} relaxations added to {study.relaxations}")


def _proposer(arguments: argparse.Namespace, config: RunConfig, study: Study) -> Proposer:
    return make_proposer(
        arguments.method, arguments.variant, arguments.models, config,
        guide=arguments.guide, steering=arguments.steering, oversample=arguments.oversample,
        downhill=arguments.downhill, screen=arguments.screen, run=study.run, changes=_changes(arguments.set),
    )  # fmt: skip


if __name__ == "__main__":
    main()

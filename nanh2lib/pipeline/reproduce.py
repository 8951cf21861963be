"""The whole method in order, then the notebooks; and the account of Tables S1-S2."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from typing import Any

from pymatgen.core import Structure
from tqdm.auto import tqdm

from nanh2lib.crystal.rigid_unit import SODIUM_AMIDE
from nanh2lib.crystal.space_group import SpaceGroup
from nanh2lib.execution import ProcessesExecutor
from nanh2lib.pipeline.book_tables import write_book_tables
from nanh2lib.pipeline.comparison import ENERGY_WINDOW
from nanh2lib.pipeline.gallery import make_gallery
from nanh2lib.pipeline.generators import sample_model, train_model
from nanh2lib.pipeline.labels import label_stage
from nanh2lib.pipeline.refine import rank_stage, ranked_table, relax_stage
from nanh2lib.pipeline.run import Run, read_json, write_json
from nanh2lib.pipeline.search import search_stage
from nanh2lib.ranking import RankedTable, matches
from nanh2lib.records import RelaxationResult
from nanh2lib.relaxation.batch import relax_many
from nanh2lib.relaxation.settings import RelaxationSettings
from nanh2lib.report.account import committed_account, known_crystals, was_found
from nanh2lib.report.book import project_root
from nanh2lib.report.notebooks import run_notebooks
from nanh2lib.report.reference_energies import reference_crystals
from nanh2lib.settings import config_hash


def expected_time(run: Run) -> str:
    """What a profile is expected to take on two cores, for the user to read before it starts."""
    minutes = run.config.expected_minutes
    if not minutes:
        return "no estimate for a custom configuration; every stage resumes after a kill"
    time = f"{minutes:.0f} minutes" if minutes < 120 else f"{minutes / 60:.0f} hours"
    return f"about {time} on two cores; every stage resumes after a kill"


def pipeline(run: Run, executor: Executor | None = None) -> dict[str, Any]:
    """All stages in order: search, label, train, sample, relax, rank."""
    stages: Sequence[tuple[str, Callable[[], dict[str, Any]]]] = (
        ("search", lambda: search_stage(run)),
        ("label", lambda: label_stage(run, executor=executor)),
        ("train", lambda: train_model(run)),
        ("sample", lambda: sample_model(run)),
        ("relax", lambda: relax_stage(run, executor)),
        ("rank", lambda: rank_stage(run)),
    )
    summaries: dict[str, Any] = {}
    with tqdm(stages, desc="stages", unit="stage", disable=not run.progress) as bar:
        for name, work in bar:
            bar.set_postfix_str(name)
            summaries[name] = work()
    return summaries


def reproduce(run: Run, executor: Executor | None = None) -> dict[str, Any]:
    """The pipeline, the account of the tables, and every notebook that the checkout has.

    Returns
    -------
    dict
        Summaries of the stages and the paths of what was written.
    """
    summary = pipeline(run, executor)
    account = reproduce_tables(run, executor)
    write_book_tables(run, account)
    make_gallery(run, account)
    runs = run_notebooks(
        project_root() / "notebooks", run.directory, run.config.profile, run.config.seed,
        context=config_hash(run.config), progress=run.progress,
        executor=executor if isinstance(executor, ProcessesExecutor) else None,  # kernels stay on this machine
    )  # fmt: skip
    summary["tables"] = str(run.path("tables", "account.json"))
    summary["notebooks"] = {item.name: str(item.path) for item in runs}
    return summary


def relaxed_published(run: Run, executor: Executor | None = None) -> dict[str, RelaxationResult]:
    """Published structures and alpha relaxed (rigid units, then all atoms; free cell) at the run's relaxing potential.

    Only those whose primitive cell is small enough (``selection.published_max_atoms``); each is
    kept as soon as it is done.
    """
    settings = RelaxationSettings(potential=run.config.relaxation.potential)
    crystals = reference_crystals()
    small = {
        key: crystal
        for key, crystal in crystals.items()
        if len(crystal.get_primitive_structure()) <= run.config.selection.published_max_atoms
    }
    path = run.path("tables", f"published-{config_hash(settings)}.json")
    kept: dict[str, Any] = read_json(path) if path.exists() else {}

    def write(key: str, results: tuple[RelaxationResult, ...] | str) -> None:
        kept[key] = {"reason": results} if isinstance(results, str) else results[-1].to_dict()
        write_json(path, kept)

    missing = {key: crystal for key, crystal in small.items() if key not in kept}
    if missing:
        relax_many(missing, settings, executor, write, compound=SODIUM_AMIDE, progress=run.progress)
    return {key: RelaxationResult.from_dict(kept[key]) for key in small if "structure" in kept[key]}


def reproduce_tables(run: Run, executor: Executor | None = None) -> list[dict[str, Any]]:
    """For each of the eight published structures and alpha: what holds and whether we found it.

    The committed evidence (`committed_account`), and what this run adds to it: its own relaxations, and whether its
    ranking holds the crystal.

    Returns
    -------
    list of dict
        Rows of `committed_account` with one key more, ``run``: profile, seed, relaxed (by potential),
        found_by_search, found_by_model. What this run found, and the committed searches did not, counts as found.
        Also written to ``tables/account.json``.
    """
    relaxed, ranked = relaxed_published(run, executor), ranked_table(run)
    methods = {candidate.id: candidate.method for candidate in run.store.candidates()}
    rows = committed_account()
    for row in rows:
        row["run"] = _of_run(run, ranked, methods, row["key"], relaxed.get(row["key"]))
        for who in ("found_by_search", "found_by_model"):
            if not was_found(row[who]) and row["run"][who] is not None:
                row[who] = row["run"][who]
    write_json(run.path("tables", "account.json"), rows)
    return rows


def _of_run(
    run: Run, ranked: RankedTable, methods: Mapping[str, str], key: str, result: RelaxationResult | None
) -> dict[str, Any]:
    structure = known_crystals()[key][-1]
    command = f"nanh2 reproduce --profile {run.config.profile} --seed {run.config.seed}"
    found = {who: find_by_method(ranked, methods, structure, result, who) for who in ("random_search", "paper")}
    search, model = (None if match is None else {**match, "command": command} for match in found.values())
    return {
        "profile": run.config.profile,
        "seed": run.config.seed,
        "relaxed": {} if result is None else {result.potential: _relaxed_entry(result)},
        "found_by_search": search,
        "found_by_model": model,
    }


def _relaxed_entry(result: RelaxationResult) -> dict[str, Any]:
    return {
        "cell": [round(v, 4) for v in result.structure.lattice.parameters],
        "ev_per_fu": round(result.energy_final, 5),
        "space_group": SpaceGroup.from_number(result.space_group_after).symbol,
        "converged": result.converged,
        "stage": result.stage,
    }


def find_by_method(
    table: RankedTable,
    methods: Mapping[str, str],
    structure: Structure,
    result: RelaxationResult | None,
    method: str,
) -> dict[str, Any] | None:
    """The best ranked crystal that a method found and that is a known one.

    Parameters
    ----------
    table : RankedTable
    methods : mapping
        Method of each ranked candidate, by id: those that a duplicate stands for count too.
    structure : Structure
        The known crystal as published.
    result : RelaxationResult or None
        It relaxed at the potential of the ranking: then that is compared, and the energies must agree
        within `ENERGY_WINDOW`.
    method : str
        Beginning of the method's name.

    Returns
    -------
    dict or None
        Keys found (True), id, rms, ev_per_fu, energy_difference_mev (None without ``result``).
    """
    by_method = {owner for member, owner in table.groups.items() if methods[member].startswith(method)}
    known = structure if result is None else result.structure
    for row, candidate in zip(table.frame.to_dict("records"), table.structures, strict=True):
        gap = 0.0 if result is None else abs(float(row["ev_per_fu"]) - result.energy_final)
        if row["id"] not in by_method or gap > ENERGY_WINDOW:
            continue
        rms = matches(candidate, known)
        if rms is not None:
            difference = None if result is None else round(1e3 * (float(row["ev_per_fu"]) - result.energy_final), 2)
            return {
                "found": True,
                "id": row["id"],
                "rms": rms,
                "ev_per_fu": row["ev_per_fu"],
                "energy_difference_mev": difference,
            }
    return None

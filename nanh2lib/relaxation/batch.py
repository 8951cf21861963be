"""A full relaxation, stage after stage, and many of them on an executor."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import Executor

from pymatgen.core import Structure

from nanh2lib.crystal.asymmetric_unit import AsymmetricUnit
from nanh2lib.crystal.extraction import extract_asymmetric_unit
from nanh2lib.crystal.rigid_unit import Compound
from nanh2lib.energy.potentials import get_calculator, one_at_a_time, require_installed
from nanh2lib.execution import UnitResult, WorkUnit, run_units
from nanh2lib.records import Candidate, RelaxationResult
from nanh2lib.relaxation.settings import RelaxationSettings
from nanh2lib.relaxation.stages import Engine, relax_atoms, relax_rigid, release


@one_at_a_time
def relax(
    crystal: AsymmetricUnit | Structure | Candidate,
    settings: RelaxationSettings | None = None,
    compound: Compound | None = None,
) -> tuple[RelaxationResult, ...]:
    """Relax a crystal: rigid units, then all atoms with the space group kept, then (on request) without.

    Parameters
    ----------
    crystal : AsymmetricUnit, Structure or Candidate
        Batch of one, or a conventional cell in a tabulated setting; of a candidate its asymmetric
        unit, or its structure where it has none.
    settings : RelaxationSettings, optional
        A stage that is None is left out.
    compound : Compound, optional
        Fixes what the units and a formula unit are.

    Returns
    -------
    tuple of RelaxationResult
        One for each stage that ran. A stage that ends unusable (exploded, broken, symmetry lost) is
        the last.

    Raises
    ------
    InputError, MissingDependencyError
        The crystal or the potential cannot be used.
    """
    settings = settings or RelaxationSettings()
    engine = Engine.of(settings.potential, **settings.options)
    results: list[RelaxationResult] = []
    current = (crystal.asymmetric_unit or crystal.structure) if isinstance(crystal, Candidate) else crystal
    if settings.rigid is not None:
        unit = current if isinstance(current, AsymmetricUnit) else extract_asymmetric_unit(current, compound=compound)
        results.append(relax_rigid(unit, engine, settings.rigid, compound, settings.symprec))
        current = results[-1].asymmetric_unit or results[-1].structure
    if settings.atoms is not None and _go_on(results):
        results.append(relax_atoms(current, engine, settings.atoms, compound, settings.symprec, settings.fragments))
        current = results[-1].structure
    if settings.released is not None and _go_on(results):
        results.append(release(current, engine, settings.released, compound, settings.fragments))
    return tuple(results)


def _go_on(results: list[RelaxationResult]) -> bool:
    return not results or results[-1].usable


def relax_many(
    crystals: Mapping[str, AsymmetricUnit | Structure | Candidate],
    settings: RelaxationSettings | None = None,
    executor: Executor | None = None,
    on_result: Callable[[str, tuple[RelaxationResult, ...] | str], None] | None = None,
    *,
    compound: Compound | None = None,
    progress: bool = True,
) -> dict[str, tuple[RelaxationResult, ...] | str]:
    """Relax many crystals; one that fails gives its reason instead of results.

    Parameters
    ----------
    crystals : mapping of key to AsymmetricUnit, Structure or Candidate
    settings : RelaxationSettings, optional
    executor : Executor, optional
        From `nanh2lib.execution.make_executor`; default: this process.
    on_result : callable, optional
        Called in this process with key and results (or the reason) as each arrives; write it down.
    compound : Compound, optional
    progress : bool
        Show a progress bar.

    Returns
    -------
    dict
        Results of the stages, or the reason, by key and in the order given.

    Raises
    ------
    InputError, MissingDependencyError
        The potential is unknown or not installed: said once, before any work starts.
    """
    settings = settings or RelaxationSettings()
    if crystals:
        require_installed(settings.potential)
    if crystals and executor is None:
        get_calculator(settings.potential, **settings.options)

    def convert(result: UnitResult) -> tuple[RelaxationResult, ...] | str:
        return result.value if isinstance(result.value, tuple) else result.error or "no result"

    results = run_units(
        relax,
        [WorkUnit(key, (crystal, settings, compound)) for key, crystal in crystals.items()],
        executor,
        on_result=None if on_result is None else lambda result: on_result(result.key, convert(result)),
        progress=progress,
        description=f"relax {settings.potential}",
    )
    return {result.key: convert(result) for result in results}

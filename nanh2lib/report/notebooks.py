"""Run the book's notebooks through papermill: checked parameters, atomic outputs, resumable."""

from __future__ import annotations

import contextlib
import difflib
import hashlib
import importlib
import json
import os
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from nanh2lib.errors import ComputationError, InputError, MissingDependencyError
from nanh2lib.execution import WorkUnit, child_environment, iterate_units
from nanh2lib.files import write_atomically
from nanh2lib.settings import package_version

PARAMETER_NAMES = ("PROFILE", "SEED", "RESULTS_DIR")
"""The only names that the ``parameters`` cell of a notebook may set."""

KERNEL = "python3"
RUN_METADATA = "nanh2lib"
"""Key of the executed notebook's metadata that says which run made it."""

_SOURCE_SUFFIXES = frozenset({".py", ".yaml", ".json", ".csv", ".mplstyle"})


@dataclass(frozen=True)
class NotebookRun:
    """One executed notebook.

    Attributes
    ----------
    name : str
        File name without suffix, e.g. ``"01_published_tables"``.
    path : Path
        The executed notebook.
    results : Path
        The JSON file of numbers that it wrote.
    seconds : float
        Wall time of the run that made it.
    reused : bool
        True where an earlier run with the same source, package and parameters was kept.
    """

    name: str
    path: Path
    results: Path
    seconds: float
    reused: bool


def package_fingerprint() -> str:
    """First 16 hex digits of the SHA-256 over the package's source and data files."""
    return _fingerprint(Path(__file__).resolve().parent.parent)


def _fingerprint(root: Path) -> str:
    """The same of all sources and data below a folder; of none where there is no folder."""
    digest = hashlib.sha256()
    for path in sorted(root.rglob("*")):
        if path.suffix in _SOURCE_SUFFIXES and path.is_file():
            digest.update(path.relative_to(root).as_posix().encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def find_notebooks(notebooks_dir: str | Path) -> tuple[Path, ...]:
    """Notebooks of a folder in reading order.

    Raises
    ------
    InputError
        The folder is missing or holds no notebook.
    """
    folder = Path(notebooks_dir)
    found = tuple(sorted(folder.glob("[0-9]*.ipynb")))
    if not found:
        raise InputError(f"{folder}: no notebooks (NN_name.ipynb) here; run it in a checkout of the project")
    return found


def check_parameters(notebook: str | Path, parameters: Mapping[str, Any]) -> None:
    """Refuse parameters that the notebook does not declare, and declared ones that nobody sets.

    papermill only warns about the first and is silent about the second.

    Parameters
    ----------
    notebook : path
        Notebook with one cell tagged ``parameters``.
    parameters : mapping
        Names and values to inject.

    Raises
    ------
    InputError
        A name is misspelt (the nearest declared one is named) or left out, or there is no
        ``parameters`` cell.
    """
    papermill = import_book_package("papermill")
    path = Path(notebook)
    try:
        declared = set(papermill.inspect_notebook(str(path)))
    except (ValueError, KeyError, OSError) as error:
        raise InputError(f"{path}: not a notebook with a kernel that papermill can read ({error})") from error
    if not declared:
        raise InputError(f"{path}: no cell tagged 'parameters' that sets {', '.join(PARAMETER_NAMES)}")
    for name in parameters:
        if name not in declared:
            near = difflib.get_close_matches(name, sorted(declared), n=1, cutoff=0.0)[0]
            raise InputError(
                f"{path}: it has no parameter {name!r}; did you mean {near!r}? "
                f"(its parameters cell sets: {', '.join(sorted(declared))})"
            )
    left_out = sorted(declared - set(parameters))
    if left_out:
        raise InputError(
            f"{path}: its parameters cell sets {', '.join(left_out)}, which the run does not; "
            f"keep to {', '.join(parameters)}"
        )


def run_notebooks(
    notebooks_dir: str | Path,
    results_dir: str | Path,
    profile: str,
    seed: int,
    *,
    only: Sequence[str] = (),
    context: str = "",
    cell_timeout: int = 3600,
    fresh: bool = False,
    executor: Executor | None = None,
    progress: bool = True,
) -> tuple[NotebookRun, ...]:
    """Execute the notebooks and keep their outputs in ``results_dir/notebooks``.

    A notebook is skipped when an earlier run has the same source, the same package sources and
    committed results, the same parameters and ``context``. None reads what another wrote; all read
    the stages of the run, and the first that needs a stage carries it out. A run that is killed
    leaves the finished ones in place.

    Parameters
    ----------
    notebooks_dir : path
        Folder of ``NN_name.ipynb``; also the working directory of their kernels.
    results_dir : path
        Where notebook ``NN_name`` writes ``NN_name.json``; handed on as ``RESULTS_DIR``.
    profile : str
        Name of the profile, handed on as ``PROFILE``.
    seed : int
        Handed on as ``SEED``.
    only : sequence of str
        Names (without suffix) of the notebooks to run; empty means all.
    context : str
        Anything else that the numbers depend on, e.g. a hash of the pipeline's settings.
    cell_timeout : int
        Seconds that one cell may take.
    fresh : bool
        Run all of them again.
    executor : Executor, optional
        Where notebooks run; several at a time only once all stages of the run are there. Default:
        one after the other.
    progress : bool
        Show a progress bar on stderr.

    Returns
    -------
    tuple of NotebookRun
        In reading order.

    Raises
    ------
    InputError
        A notebook is missing or its parameters cell does not fit; nothing has been run then.
    ComputationError
        A cell failed, took too long, or the notebook wrote no readable ``NN_name.json``. The failed
        notebook is kept and its path is in the message.
    """
    source_dir, target = Path(notebooks_dir).resolve(), Path(results_dir).resolve()
    notebooks = _select(find_notebooks(source_dir), only)
    parameters = {"PROFILE": profile, "SEED": int(seed), "RESULTS_DIR": _portable(target, source_dir)}
    for path in notebooks:
        check_parameters(path, parameters)
    (target / "notebooks").mkdir(parents=True, exist_ok=True)
    fingerprint = package_fingerprint() + _fingerprint(source_dir.parent / "benchmarks" / "results")
    runs: dict[str, NotebookRun] = {}
    units = []
    for path in notebooks:
        key = _run_key(path, parameters, context, fingerprint)
        kept = None if fresh else _kept_run(path.stem, target, key)
        if kept is None:
            units.append(WorkUnit(path.stem, (path, target, parameters, key, cell_timeout)))
        else:
            runs[path.stem] = kept
    bar = tqdm(total=len(notebooks), initial=len(runs), desc="notebooks", unit="notebook", disable=not progress)
    # closing(): after a failure, notebooks that are under way elsewhere are ended at once.
    with bar, contextlib.closing(iterate_units(_attempt, units, executor)) as stream:
        for result in stream:
            if not isinstance(result.value, NotebookRun):
                raise result.value or ComputationError(f"notebook {result.key}.ipynb: {result.error}")
            runs[result.key] = result.value
            bar.set_postfix_str(f"{result.key} done")
            bar.update()
    return tuple(runs[path.stem] for path in notebooks)


def _run_key(path: Path, parameters: Mapping[str, Any], context: str, fingerprint: str) -> str:
    """Hash of all that the outputs of a notebook depend on."""
    settings = json.dumps([dict(parameters), context, fingerprint], sort_keys=True)
    return hashlib.sha256(settings.encode() + path.read_bytes()).hexdigest()


def import_book_package(name: str) -> Any:
    """Import a module of the extra ``book``, or say how to install it.

    Raises
    ------
    MissingDependencyError
        It is not installed.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise MissingDependencyError(
            f"{name} is not installed; the notebooks and the book need: pip install 'nanh2lib[book]'"
        ) from error


def _select(notebooks: Sequence[Path], only: Sequence[str]) -> tuple[Path, ...]:
    names = {path.stem: path for path in notebooks}
    for name in only:
        if name not in names:
            raise InputError(f"no notebook {name!r}; there are: {', '.join(names)}")
    return tuple(path for path in notebooks if not only or path.stem in only)


def _portable(target: Path, cwd: Path) -> str:
    """Relative path where both lie in one project, so that no notebook carries a machine's folders."""
    if target.is_relative_to(cwd.parent):
        return Path(os.path.relpath(target, cwd)).as_posix()
    return str(target)


@contextlib.contextmanager
def _reproducible_kernel() -> Iterator[None]:
    """Take the kernel of this environment and leave the user's IPython profile out of the run."""
    with tempfile.TemporaryDirectory(prefix="nanh2-ipython-") as profile_dir:
        wanted = {
            "JUPYTER_PREFER_ENV_PATH": "1",
            "IPYTHONDIR": profile_dir,
            "PYDEVD_DISABLE_FILE_VALIDATION": "1",
        }
        with child_environment(wanted):
            yield


def _kernel_settings() -> Any:
    """Encrypt the kernel's sockets where the versions at hand can; it says so on stderr where it does not."""
    config = import_book_package("traitlets.config")
    return config.Config({"KernelManager": {"transport_encryption": "auto"}})


def _kept_run(name: str, target: Path, key: str) -> NotebookRun | None:
    path, results = target / "notebooks" / f"{name}.ipynb", target / f"{name}.json"
    try:
        run = json.loads(path.read_text(encoding="utf-8"))["metadata"][RUN_METADATA]
        _read_results(path, results)
    except (OSError, ValueError, KeyError, TypeError, ComputationError):
        return None
    if run.get("key") != key:
        return None
    return NotebookRun(name, path, results, float(run["seconds"]), reused=True)


def _attempt(
    path: Path, target: Path, parameters: dict[str, Any], key: str, timeout: int
) -> NotebookRun | ComputationError:
    """The run, or why it failed: as a value, for errors of other processes arrive as text."""
    try:
        with _reproducible_kernel():
            return _execute(path, target, parameters, key, timeout)
    except ComputationError as error:
        return error


def _execute(path: Path, target: Path, parameters: dict[str, Any], key: str, timeout: int) -> NotebookRun:
    papermill = import_book_package("papermill")
    exceptions = import_book_package("nbclient.exceptions")
    name = path.stem
    partial = target / "notebooks" / f".{name}.partial.ipynb"
    results = target / f"{name}.json"
    results.unlink(missing_ok=True)  # an old one must not pass for the new one
    start = time.perf_counter()
    try:
        notebook = papermill.execute_notebook(
            str(path),
            str(partial),
            parameters=parameters,
            kernel_name=KERNEL,
            cwd=str(path.parent),
            execution_timeout=timeout,
            start_timeout=120,
            progress_bar=False,
            log_output=False,
            config=_kernel_settings(),
        )
        _read_results(path, results)
    except papermill.PapermillExecutionError as error:
        raise _failed(path, partial, f"{error.ename}: {error.evalue}") from error
    except (exceptions.CellTimeoutError, exceptions.DeadKernelError) as error:
        raise _failed(path, partial, " ".join(str(error).split())[:300]) from error
    except ComputationError as error:
        raise _failed(path, partial, str(error)) from error
    seconds = time.perf_counter() - start
    notebook.metadata[RUN_METADATA] = {
        "key": key,
        "profile": parameters["PROFILE"],
        "seed": parameters["SEED"],
        "package_version": package_version(),
        "seconds": round(seconds, 1),
    }
    final = target / "notebooks" / path.name
    write_notebook(notebook, final)
    partial.unlink(missing_ok=True)
    _failed_path(target, name).unlink(missing_ok=True)
    return NotebookRun(name, final, results, seconds, reused=False)


def _failed_path(target: Path, name: str) -> Path:
    return target / "notebooks" / "failed" / f"{name}.ipynb"


def _failed(path: Path, partial: Path, reason: str) -> ComputationError:
    kept = _failed_path(partial.parent.parent, path.stem)
    where = "it left nothing behind"
    if partial.exists():
        kept.parent.mkdir(parents=True, exist_ok=True)
        os.replace(partial, kept)
        where = f"the run is kept at {kept}"
    return ComputationError(f"notebook {path.name} failed ({reason}); {where}")


def _read_results(notebook: Path, results: Path) -> Any:
    try:
        return json.loads(results.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ComputationError(f"{notebook.name} wrote no {results.name} into RESULTS_DIR") from error
    except ValueError as error:
        raise ComputationError(f"{results}: not JSON ({error})") from error


def write_notebook(notebook: Any, path: Path) -> None:
    """Write a notebook node atomically (temporary file, then rename)."""
    nbformat = import_book_package("nbformat")
    write_atomically(path, nbformat.writes(notebook).encode())

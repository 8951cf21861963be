"""The papermill runner, on two small notebooks."""

from __future__ import annotations

import json

import nbformat
import pytest

from nanh2lib.errors import ComputationError, InputError
from nanh2lib.execution import make_executor
from nanh2lib.report import notebooks as runner
from nanh2lib.report.notebooks import check_parameters, find_notebooks, run_notebooks
from tests.report.sample_notebooks import NUMBERS, code, parameters, text, write, write_sample_notebooks

pytestmark = pytest.mark.xdist_group("notebooks")
PARAMETERS = {"PROFILE": "smoke", "SEED": 0, "RESULTS_DIR": "."}


@pytest.fixture(autouse=True)
def _one_package(monkeypatch):
    """The package may be edited while its tests run; here it is not what is looked at."""
    monkeypatch.setattr(runner, "package_fingerprint", lambda: "the package")


@pytest.fixture
def project(tmp_path):
    """Folder of notebooks with one that needs nothing but numpy."""
    folder = tmp_path / "notebooks"
    folder.mkdir()
    write(folder / "01_numbers.ipynb", [text("Numbers"), parameters(), code(NUMBERS)])
    return tmp_path


def run(project, **changes):
    arguments = {"profile": "smoke", "seed": 0, "progress": False, **changes}
    return run_notebooks(project / "notebooks", project / "results", **arguments)


def test_writes_numbers_and_an_executed_notebook_and_runs_once_only(project):
    (first,) = run(project)
    assert not first.reused
    assert json.loads(first.results.read_text())["profile"] == "smoke"
    (second,) = run(project)
    assert second.reused
    assert second.seconds == pytest.approx(first.seconds, abs=0.1)


def test_seed_source_package_committed_results_and_context_each_make_it_run_again(project, monkeypatch):
    mean = json.loads(run(project)[0].results.read_text())["mean"]
    (other,) = run(project, seed=1)
    assert not other.reused
    assert json.loads(other.results.read_text())["mean"] != mean
    assert not run(project, seed=1, context="other settings")[0].reused
    write(project / "notebooks" / "01_numbers.ipynb", [parameters(), code(NUMBERS + "\n")])
    assert not run(project, seed=1, context="other settings")[0].reused
    monkeypatch.setattr(runner, "package_fingerprint", lambda: "another package")
    assert not run(project, seed=1, context="other settings")[0].reused
    (project / "benchmarks" / "results").mkdir(parents=True)
    (project / "benchmarks" / "results" / "study.json").write_text("{}")
    assert not run(project, seed=1, context="other settings")[0].reused
    assert run(project, seed=1, context="other settings")[0].reused


def test_a_lost_result_makes_it_run_again_and_no_other(project):
    write(project / "notebooks" / "02_more.ipynb", [parameters(), code(NUMBERS.replace("01_numbers", "02_more"))])
    run(project)
    (project / "results" / "01_numbers.json").unlink()
    assert [item.reused for item in run(project)] == [False, True]
    (project / "results" / "02_more.json").unlink()
    assert [item.reused for item in run(project)] == [True, False]


def test_in_two_processes_all_run_in_reading_order_and_a_failure_is_named(project):
    broken = project / "notebooks" / "02_more.ipynb"
    more = [parameters(), code(NUMBERS.replace("01_numbers", "02_more"))]
    write(broken, [parameters(), code("import time; time.sleep(8); raise RuntimeError('not yet')")])
    with make_executor("processes:2") as executor:
        with pytest.raises(ComputationError, match=r"02_more\.ipynb failed \(RuntimeError: not yet\)") as caught:
            run(project, executor=executor)
        assert str(project / "results" / "notebooks" / "failed" / "02_more.ipynb") in str(caught.value)
        write(broken, more)
        found = run(project, executor=executor)
    assert [(item.name, item.reused) for item in found] == [("01_numbers", True), ("02_more", False)]
    (alone,) = run(project, only=["02_more"], fresh=True)
    assert json.loads(alone.results.read_text()) == json.loads(found[1].results.read_text())


def test_no_machine_path_enters_a_notebook_of_the_project(project):
    (item,) = run(project)
    notebook = nbformat.read(str(item.path), as_version=4)
    assert str(project) not in json.dumps([cell.source for cell in notebook.cells])


def test_kernel_is_this_python(project):
    source = "import json, sys\nopen(f'{RESULTS_DIR}/01_numbers.json', 'w').write(json.dumps(sys.prefix))"
    write(project / "notebooks" / "01_numbers.ipynb", [parameters(), code(source)])
    import sys

    assert json.loads(run(project)[0].results.read_text()) == sys.prefix


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("assert 1 + 1 == 3, 'sums are off'", "AssertionError: sums are off"),
        ("import time; time.sleep(60)", "timed out"),
        ("x = 1", "wrote no 01_numbers.json"),
        ("open(f'{RESULTS_DIR}/01_numbers.json', 'w').write('{')", "not JSON"),
        ("import os; os._exit(1)", "Kernel died"),
    ],
    ids=["raised cell", "timeout", "no numbers", "broken numbers", "dead kernel"],
)
def test_a_failing_notebook_is_kept_and_named(project, source, said):
    write(project / "notebooks" / "01_numbers.ipynb", [parameters(), code(source)])
    with pytest.raises(ComputationError, match=r"01_numbers\.ipynb failed") as caught:
        run(project, cell_timeout=5)
    assert said in str(caught.value)
    kept = project / "results" / "notebooks" / "failed" / "01_numbers.ipynb"
    assert str(kept) in str(caught.value)
    assert nbformat.read(str(kept), as_version=4).cells
    assert list((project / "results" / "notebooks").glob("*.ipynb")) == []


def test_after_a_failure_the_finished_notebooks_are_kept_and_the_next_run_goes_on(project):
    broken = project / "notebooks" / "02_more.ipynb"
    write(broken, [parameters(), code("raise RuntimeError('not yet')")])
    with pytest.raises(ComputationError):
        run(project)
    write(broken, [parameters(), code(NUMBERS.replace("01_numbers", "02_more"))])
    assert [item.reused for item in run(project)] == [True, False]
    assert not (project / "results" / "notebooks" / "failed" / "02_more.ipynb").exists()


def test_a_misspelt_parameter_is_refused_with_the_right_name(project):
    path = project / "notebooks" / "01_numbers.ipynb"
    with pytest.raises(InputError, match=r"no parameter 'SEAD'; did you mean 'SEED'"):
        check_parameters(path, {"PROFILE": "smoke", "SEAD": 0, "RESULTS_DIR": "."})


@pytest.mark.parametrize(
    ("cell", "said"),
    [
        ('PROFILE = "smoke"\nSEAD = 0\nRESULTS_DIR = "."', "did you mean 'SEAD'"),
        ('PROFILE = "smoke"\nSEED = 0\nRESULTS_DIR = "."\nEXTRA = 1', "EXTRA"),
        ("", "no cell tagged"),
    ],
    ids=["misspelt in the notebook", "one too many", "none"],
)
def test_a_parameters_cell_that_does_not_fit_stops_before_anything_runs(project, cell, said):
    write(project / "notebooks" / "02_odd.ipynb", [parameters(cell), code("x = 1")])
    with pytest.raises(InputError, match=said):
        run(project)
    assert not (project / "results").exists()


def test_unknown_notebook_empty_folder_and_foreign_file(project, tmp_path):
    with pytest.raises(InputError, match="no notebook '99_none'; there are: 01_numbers"):
        run(project, only=["99_none"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="no notebooks"):
        find_notebooks(tmp_path / "empty")
    (project / "notebooks" / "03_text.ipynb").write_text("no notebook")
    with pytest.raises(InputError, match=r"03_text\.ipynb"):
        run(project)


def test_samples_are_good_notebooks(tmp_path):
    for path in find_notebooks(write_sample_notebooks(tmp_path)):
        check_parameters(path, PARAMETERS)

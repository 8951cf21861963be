"""Bad input: one error line with the value, the place and the way out; exit status 1 or 2; nothing changed."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
import yaml

from nanh2lib.cli.app import run
from nanh2lib.config import load_config
from nanh2lib.errors import ComputationError, InputError, Nanh2Error
from nanh2lib.pipeline.run import open_run
from nanh2lib.settings import read_yaml

TINY = {"search": {"space_groups": ["hall:81"], "per_setting": 2, "max_draws_per_setting": 8}}


def nanh2(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    status = run(arguments)
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def write_yaml(path: Path, data: object) -> Path:
    path.write_text(yaml.safe_dump(data))
    return path


def one_line(error: str) -> str:
    lines = [line for line in error.splitlines() if line.strip()]
    assert len(lines) == 1, error
    assert lines[0].startswith("nanh2: error: ")
    return lines[0]


@pytest.fixture(scope="module")
def tiny_run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("run")
    config = write_yaml(folder / "tiny.yaml", TINY)
    assert run(["search", "--run", str(folder / "run"), "--profile", "smoke", "--config", str(config), "-q"]) == 0
    return folder / "run", config


def digest(folder: Path) -> str:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()


def test_a_file_that_is_no_cif(tmp_path, capsys):
    bad = tmp_path / "bad.cif"
    bad.write_text("this is not a crystal\n")
    status, _, error = nanh2(capsys, "validate", str(bad))
    assert status == 2
    assert "bad.cif" in one_line(error)
    assert "CIF" in error


def test_a_file_that_is_missing(tmp_path, capsys):
    status, _, error = nanh2(capsys, "relax", str(tmp_path / "nothing.cif"))
    assert status == 2
    assert "nothing.cif" in one_line(error)


def test_a_crystal_that_is_not_the_compound(tmp_path, capsys):
    from pymatgen.core import Lattice, Structure

    salt = Structure.from_spacegroup("Fm-3m", Lattice.cubic(5.64), ["Na", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    from nanh2lib.crystal.extraction import extract_asymmetric_unit
    from nanh2lib.crystal.rigid_unit import SODIUM_AMIDE

    with pytest.raises(InputError, match="NaNH2"):
        extract_asymmetric_unit(salt, compound=SODIUM_AMIDE)


def test_broken_units_fail_validation(tmp_path, capsys):
    from nanh2lib.report.published import published_structure

    crystal = published_structure("S1-P21212").structure.copy()
    hydrogen = next(i for i, site in enumerate(crystal) if site.specie.symbol == "H")
    crystal.translate_sites([hydrogen], [0.0, 0.0, 0.15], frac_coords=True)
    path = tmp_path / "broken.cif"
    crystal.to(str(path))
    status, out, _ = nanh2(capsys, "validate", str(path), "--json")
    assert status == 1
    (row,) = json.loads(out)
    assert not row["passed"]
    assert "fragments" in row["reason"]


def test_a_space_group_that_does_not_fit_the_cell(tmp_path, capsys):
    config = write_yaml(tmp_path / "c.yaml", {"search": {"space_groups": ["Fm-3m"]}})
    status, _, error = nanh2(
        capsys, "search", "--run", str(tmp_path / "r"), "--profile", "smoke", "--config", str(config)
    )
    assert status == 2
    assert "Fm-3m" in one_line(error)
    assert not (tmp_path / "r" / "candidates.db").exists()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"sampling": {"count": 0}}, ("sampling.count", "0")),
        ({"search": {"per_setting": -3}}, ("search.per_setting", "-3")),
        ({"search": {"z": 0}}, ("search.z", "0")),
        ({"sampling": {"guidance_scale": -1.0}}, ("guidance_scale", "-1")),
        ({"training": {"scheem": "split"}}, ("training.scheem", "'scheme'")),
        ({"serach": {}}, ("serach", "'search'")),
        ({"relaxation": {"atoms": {"fmax": -0.1}}}, ("fmax", "-0.1")),
    ],
)
def test_settings_out_of_range_or_misspelt(tmp_path, capsys, changes, words):
    config = write_yaml(tmp_path / "c.yaml", changes)
    status, _, error = nanh2(
        capsys, "search", "--run", str(tmp_path / "r"), "--profile", "smoke", "--config", str(config)
    )
    assert status == 2
    line = one_line(error)
    assert "c.yaml" in line
    for word in words:
        assert word in line
    assert not (tmp_path / "r").exists()


def test_yaml_that_is_not_yaml(tmp_path, capsys):
    config = tmp_path / "c.yaml"
    config.write_text("search: [1, 2\n")
    status, _, error = nanh2(capsys, "search", "--config", str(config))
    assert status == 2
    assert "YAML" in one_line(error)


def test_yaml_cannot_run_code(tmp_path):
    config = tmp_path / "c.yaml"
    config.write_text("search: !!python/object/apply:os.system ['true']\n")
    with pytest.raises(InputError, match="YAML"):
        read_yaml(config)


def test_a_profile_that_does_not_exist(capsys):
    status, _, error = nanh2(capsys, "search", "--profile", "smokey")
    assert status == 2
    assert "'smoke'" in one_line(error)


def test_a_potential_that_does_not_exist(tiny_run, capsys):
    folder, config = tiny_run
    before = digest(folder)
    status, _, error = nanh2(
        capsys,
        "label",
        "--run",
        str(folder),
        "--profile",
        "smoke",
        "--config",
        str(config),
        "--potential",
        "chgnte",
        "-q",
    )
    assert status == 2
    assert "chgnet" in one_line(error)
    assert digest(folder) == before


def test_training_without_energies(tiny_run, capsys):
    folder, config = tiny_run
    before = digest(folder)
    status, _, error = nanh2(capsys, "train", "--run", str(folder), "--profile", "smoke", "--config", str(config), "-q")
    assert status == 2
    assert "label" in one_line(error)
    assert digest(folder) == before


def test_sampling_without_a_model(tiny_run, capsys):
    folder, config = tiny_run
    before = digest(folder)
    status, _, error = nanh2(
        capsys, "sample", "--run", str(folder), "--profile", "smoke", "--config", str(config), "-q"
    )
    assert status == 2
    assert "nanh2 train" in one_line(error)
    assert digest(folder) == before


def test_a_checkpoint_that_is_foreign(tiny_run, capsys):
    folder, config = tiny_run
    model = folder / "models" / "paper.json"
    model.parent.mkdir(exist_ok=True)
    model.write_text('{"what": "another program wrote this"}')
    status, _, error = nanh2(
        capsys, "sample", "--run", str(folder), "--profile", "smoke", "--config", str(config), "-q"
    )
    model.unlink()
    assert status == 1
    assert "paper.json" in one_line(error)


def test_a_run_folder_of_other_settings(tiny_run, capsys):
    folder, _ = tiny_run
    before = digest(folder)
    status, _, error = nanh2(capsys, "search", "--run", str(folder), "--profile", "smoke")
    assert status == 2
    assert "search" in one_line(error)
    assert digest(folder) == before


def test_a_store_that_is_no_database(tmp_path, capsys):
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "candidates.db").write_text("a shopping list")
    status, _, error = nanh2(capsys, "search", "--run", str(folder), "--profile", "smoke", "-q")
    assert status == 1
    assert "candidates.db" in one_line(error)
    assert (folder / "candidates.db").read_text() == "a shopping list"


def test_nan_energies_are_failures_not_numbers():
    from nanh2lib.energy.labels import energy_per_formula_unit
    from nanh2lib.report.published import published_structure

    with pytest.raises(ComputationError, match="not finite"):
        energy_per_formula_unit(published_structure("S1-P21212").structure, "tests.cli.nan_calculator:make")


def test_every_error_knows_its_exit_status():
    def all_subclasses(cls: type) -> list[type]:
        return [cls, *(sub for child in cls.__subclasses__() for sub in all_subclasses(child))]

    assert {cls.exit_code for cls in all_subclasses(Nanh2Error)} <= {1, 2}


def test_an_unchanged_configuration_opens_the_same_run(tmp_path):
    settings = load_config("smoke")
    assert open_run(tmp_path / "r", settings).config == open_run(tmp_path / "r", settings).config

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


@pytest.mark.parametrize("command", ["validate", "label", "relax"])
def test_a_file_that_is_no_cif(tmp_path, capsys, command):
    bad = tmp_path / "bad.cif"
    bad.write_text("this is not a crystal\n")
    status, _, error = nanh2(capsys, command, str(bad))
    assert status == 2
    assert "bad.cif" in one_line(error)
    assert "CIF" in error


def test_a_file_that_is_missing(tmp_path, capsys):
    status, _, error = nanh2(capsys, "relax", str(tmp_path / "nothing.cif"))
    assert status == 2
    assert "nothing.cif" in one_line(error)


@pytest.fixture
def salt(tmp_path: Path) -> Path:
    from pymatgen.core import Lattice, Structure

    structure = Structure.from_spacegroup("Fm-3m", Lattice.cubic(5.64), ["Na", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    structure.to(filename=str(tmp_path / "salt.cif"))
    return tmp_path / "salt.cif"


@pytest.fixture
def broken(tmp_path: Path) -> Path:
    """NaNH2 with one H torn off."""
    from nanh2lib.report.published import published_structure

    crystal = published_structure("S1-P21212").structure.copy()
    hydrogen = next(i for i, site in enumerate(crystal) if site.specie.symbol == "H")
    crystal.translate_sites([hydrogen], [0.0, 0.0, 0.15], frac_coords=True)
    crystal.to(filename=str(tmp_path / "broken.cif"))
    return tmp_path / "broken.cif"


@pytest.mark.parametrize("command", ["validate", "label", "relax"])
def test_a_crystal_that_is_not_the_compound(tmp_path, capsys, salt, command):
    compound = write_yaml(tmp_path / "amide.yaml", {"name": "NaNH2", "units": [{"name": "Na"}, {"name": "NH2"}]})
    options = [] if command == "validate" else ["--potential", "chgnet", "-q"]
    out_folder = ["--out", str(tmp_path / "relaxed")] if command == "relax" else []
    status, out, _ = nanh2(capsys, command, str(salt), "--compound", str(compound), *options, *out_folder, "--json")
    assert status == 1
    assert "NaNH2" in out
    assert "Cl" in out
    assert not (tmp_path / "relaxed").exists()


@pytest.mark.parametrize("command", ["validate", "relax"])
def test_broken_units_are_refused(tmp_path, capsys, broken, command):
    folder = tmp_path / "relaxed"
    options = ["--potential", "chgnet", "-q", "--out", str(folder)] if command == "relax" else []
    status, out, _ = nanh2(capsys, command, str(broken), *options, "--json")
    assert status == 1
    found = json.loads(out)
    (row,) = found.values() if isinstance(found, dict) else found
    assert "form 'H', which is not a unit of NaNH2" in row["reason"]
    assert "Units may be broken" in row["reason"]
    assert not folder.exists()


def test_a_crystal_of_another_compound_is_no_asymmetric_unit_of_this_one(salt):
    from nanh2lib.crystal.extraction import extract_asymmetric_unit
    from nanh2lib.crystal.files import read_structure
    from nanh2lib.crystal.rigid_unit import SODIUM_AMIDE

    with pytest.raises(InputError, match=r"'Cl', which is not a unit of NaNH2: found 4 Cl, 4 Na; expected"):
        extract_asymmetric_unit(read_structure(salt), compound=SODIUM_AMIDE)


@pytest.mark.parametrize("option", ["-q", "--json"])
def test_a_space_group_that_does_not_fit_the_cell(tmp_path, capsys, option):
    config = write_yaml(tmp_path / "c.yaml", {"search": {"space_groups": ["Fm-3m"]}})
    arguments = ("search", "--run", str(tmp_path / "r"), "--profile", "smoke", "--config", str(config), "-q")
    status, _, error = nanh2(capsys, *arguments, option)
    assert status == 2
    line = one_line(error)
    for words in ("Fm-3m", "does not fit the cell", "leave it out"):
        assert words in line
    assert not (tmp_path / "r" / "candidates.db").exists()
    # The way out can be gone: a run that holds nothing yet takes the mended settings.
    write_yaml(config, TINY)
    assert nanh2(capsys, *arguments)[0] == 0


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"sampling": {"count": 0}}, ("sampling.count", "0")),
        ({"search": {"per_setting": -3}}, ("search.per_setting", "-3")),
        ({"search": {"z": 0}}, ("search.z", "0")),
        ({"sampling": {"guidance_scale": -1.0}}, ("guidance_scale", "-1")),
        ({"geometric": {"temperature": -0.1}}, ("geometric.temperature", "-0.1")),
        ({"dataset": {"per_setting": 0}}, ("dataset.per_setting", "0")),
        ({"label": {"options": {}, "potental": "chgnet"}}, ("label.potental", "'potential'")),
        ({"relaxation": {"rigid": {"max_evaluations": 0}}}, ("relaxation.rigid.max_evaluations", "0")),
        ({"training": {"scheem": "split"}}, ("training.scheem", "'scheme'")),
        ({"serach": {}}, ("serach", "'search'")),
        ({"relaxation": {"atoms": {"fmx": 0.1}}}, ("relaxation.atoms.fmx", "'fmax'")),
        ({"geometric": {"held_out": {"levl": 0.1}}}, ("geometric.held_out.levl", "'level'")),
        ({"search": {"lattice": {"kindd": "fixed"}}}, ("search.lattice.kindd", "'kind'")),
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


def test_energies_that_are_no_numbers_become_failures_in_the_store(tmp_path, capsys):
    """The candidates stay, each with the reason; training on them is refused."""
    config = write_yaml(tmp_path / "tiny.yaml", TINY)
    arguments = ("--run", str(tmp_path / "run"), "--profile", "smoke", "--config", str(config), "-q")
    assert nanh2(capsys, "search", *arguments)[0] == 0
    nan = ("--potential", "tests.cli.nan_calculator:make", "--executor", "serial", "--json")
    status, out, error = nanh2(capsys, "label", *arguments, *nan)
    assert status == 1
    assert "2 x " in one_line(error)
    summary = json.loads(out)
    assert (summary["labelled"], summary["failed"]) == (0, 2)
    assert all("energy not finite" in reason for reason in summary["reasons"])
    store = open_run(tmp_path / "run", load_config("smoke", config)).store
    assert all(not candidate.energies for candidate in store.candidates())
    status, _, error = nanh2(capsys, "train", *arguments)
    assert status == 2
    assert "nothing to train on" in one_line(error)


@pytest.mark.parametrize(("command", "first"), [("label", "search"), ("relax", "search"), ("rank", "relax")])
def test_a_stage_without_the_one_before_it(tmp_path, capsys, command, first):
    config = write_yaml(tmp_path / "tiny.yaml", TINY)
    arguments = ("--run", str(tmp_path / "run"), "--profile", "smoke", "--config", str(config), "-q")
    status, _, error = nanh2(capsys, command, *arguments)
    assert status == 1
    assert f"run 'nanh2 {first}' first" in one_line(error)


def test_a_search_without_room_says_why(tmp_path, capsys):
    search = {"space_groups": ["hall:81", "hall:335"], "limit_scale": 1.5, "per_setting": 1, "max_draws_per_setting": 8}
    config = write_yaml(tmp_path / "c.yaml", {"search": search})
    arguments = ("--run", str(tmp_path / "run"), "--profile", "smoke", "--config", str(config), "-q", "--json")
    status, out, error = nanh2(capsys, "search", *arguments)
    assert status == 1
    line = one_line(error)
    for words in ("no draw was accepted", "P2_1/c: 0 of 1; 8 of 8 draws failed push_apart", "Fddd: 0 of 1"):
        assert words in line
    assert set(json.loads(out)["short_of_share"]) == {"P2_1/c", "Fddd"}


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


def test_a_checkpoint_of_another_architecture(tmp_path, capsys):
    """Trained, then its description changed: sampling names the layer, and nothing is added to the store."""
    changes = {**TINY, "training": {"epochs": 2, "timesteps": 8}, "sampling": {"count": 2}}
    config = write_yaml(tmp_path / "tiny.yaml", changes)
    arguments = ("--run", str(tmp_path / "run"), "--profile", "smoke", "--config", str(config), "-q")
    for command in (("search",), ("label", "--executor", "serial"), ("train",)):
        assert nanh2(capsys, *command, *arguments)[0] == 0
    model = tmp_path / "run" / "models" / "paper.json"
    description = json.loads(model.read_text())
    description["payload"]["noise"]["settings"]["noise_hidden"] = [64, 32, 64]
    model.write_text(json.dumps(description))
    before = digest(tmp_path / "run")
    status, _, error = nanh2(capsys, "sample", *arguments)
    assert status == 1
    line = one_line(error)
    for words in ("paper.json", "(64,)", "(32,)"):
        assert words in line
    assert digest(tmp_path / "run") == before


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


def test_ctrl_c_is_answered_with_one_line(tiny_run, capsys, monkeypatch):
    def interrupted(*arguments: object, **options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("nanh2lib.pipeline.labels.label_stage", interrupted)
    folder, config = tiny_run
    status, _, error = nanh2(capsys, "label", "--run", str(folder), "--profile", "smoke", "--config", str(config))
    assert status == 130
    assert "the same command goes on from there" in one_line(error)

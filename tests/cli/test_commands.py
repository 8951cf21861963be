"""Every command: an example in its help, JSON where it reports, an exit status; and the commands on published data."""

from __future__ import annotations

import json

import pytest
import typer
import yaml

from nanh2lib.cli.app import app, run
from nanh2lib.crystal.files import read_structure
from nanh2lib.report.published import published_structure, published_structures
from tests.crystal.published_compounds import COMPOUNDS


def commands() -> dict[str, object]:
    """All commands by the words that call them."""
    found: dict[str, object] = {}

    def walk(group: object, words: tuple[str, ...]) -> None:
        for name, command in group.commands.items():
            if hasattr(command, "commands"):
                walk(command, (*words, name))
            else:
                found[" ".join((*words, name))] = command

    walk(typer.main.get_command(app), ())
    return found


COMMANDS = commands()


def nanh2(capsys, *arguments: str) -> tuple[int, str]:
    status = run(arguments)
    return status, capsys.readouterr().out


def test_the_commands_of_the_readme_are_all_there():
    expected = {"tables", "search", "label", "train", "sample", "validate", "relax", "rank", "reproduce"}
    assert expected | {"notebooks", "book", "pdf"} <= set(COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_help_teaches_with_an_example_of_the_same_command(name, capsys):
    status, out = nanh2(capsys, *name.split(), "--help")
    assert status == 0
    text = " ".join(out.split())
    assert "Example" in text
    assert f"nanh2 {name}" in text.split("Example", 1)[1]


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_a_json_option(name):
    assert "--json" in {flag for parameter in COMMANDS[name].params for flag in parameter.opts}


def test_an_unknown_command_or_option_is_a_usage_error(capsys):
    for arguments in (
        ["serach"],
        ["search", "--porfile", "smoke"],
        ["search", "--seed", "-1"],
        ["rank", "--seed", "x"],
    ):
        assert run(arguments) == 2
        assert capsys.readouterr().err.strip()


def test_tables_are_shown_as_printed_and_corrected(capsys):
    status, out = nanh2(capsys, "tables")
    assert status == 0
    assert out.count("Table S") == 8
    assert "alpha, beta, gamma 90.000  145.882  90.000" in out
    assert "correction: gamma printed 120.000, holds 90.000" in out
    assert "remark: Pcca at symprec 1e-2 A; Ibca" in out
    assert "106.029  120.000" not in out
    assert "106.029  120.000" in nanh2(capsys, "tables", "--as-printed")[1]


def test_tables_check_holds_with_the_errata_and_fails_without(capsys):
    status, out = nanh2(capsys, "tables", "--check", "--json")
    assert status == 0
    rows = json.loads(out)
    assert len({row["key"] for row in rows}) == 8
    assert all({"printed", "found", "verdict"} <= set(row) for row in rows)
    named = {row["quantity"] for row in rows if row["key"] == "S1-P21212"}
    assert {"composition", "Z", "space group", "N-H", "H-N-H", "volume per formula unit"} <= named
    status, out = nanh2(capsys, "tables", "--check", "--as-printed", "--json")
    assert status == 1
    failed = {row["key"] for row in json.loads(out) if row["verdict"] not in ("holds", "remark")}
    assert failed == {"S1-P21", "S2-P2c"}
    status, out = nanh2(capsys, "tables", "--check")
    assert status == 0
    assert "verdict" in out


def test_tables_write_makes_cif_files(tmp_path, capsys):
    status, out = nanh2(capsys, "tables", "--write", str(tmp_path / "cifs"))
    assert status == 0
    assert "9 CIF files" in out
    for item in published_structures():
        assert len(read_structure(tmp_path / "cifs" / f"{item.key}.cif")) == len(item.structure)
    assert len(read_structure(tmp_path / "cifs" / "alpha.cif")) == 64
    (tmp_path / "file").write_text("")
    assert run(["tables", "--write", str(tmp_path / "file")]) == 2


def test_crystal_files_are_validated_labelled_and_relaxed(tmp_path, capsys):
    cif = tmp_path / "p.cif"
    published_structure("S1-P21212").structure.to(filename=str(cif))
    status, out = nanh2(capsys, "validate", str(cif), "--space-group", "P2_12_12", "--json")
    assert status == 0
    assert json.loads(out)[0]["passed"]
    status, out = nanh2(capsys, "validate", str(cif), "--space-group", "P2_1/c", "--json")
    assert status == 1
    assert "symmetry" in json.loads(out)[0]["reason"]
    status, out = nanh2(capsys, "label", str(cif), "--potential", "chgnet", "-q", "--json")
    assert status == 0
    (row,) = json.loads(out)
    assert row["ev_per_fu"] == pytest.approx(-18.143, abs=2e-3)
    folder = tmp_path / "relaxed"
    status, out = nanh2(capsys, "relax", str(cif), "--potential", "chgnet", "-q", "--out", str(folder), "--json")
    assert status == 0
    (row,) = json.loads(out).values()
    assert row["ev_per_fu"] < row["ev_per_fu_start"]
    assert len(read_structure(folder / "p-relaxed.cif")) == 8


def test_a_compound_of_the_users_own_is_searched_and_kept_by_the_run(tmp_path, capsys):
    """CO2 from a list of atoms, in cells of a target volume; a later call need not name the compound again."""
    compound = tmp_path / "dry-ice.yaml"
    unit = {"name": "CO2", "species": ["C", "O", "O"], "coords": [[1, 2, 3], [1, 2, 4.168], [1, 2, 1.832]]}
    compound.write_text(yaml.safe_dump({"name": "CO2", "units": [unit]}))
    config = tmp_path / "search.yaml"
    search = {
        "z": 4, "space_groups": [205, "hall:115"], "per_setting": 2, "max_draws_per_setting": 60,
        "lattice": {"kind": "volume", "volume_per_formula_unit": 46.0},
        "pair_limits": {"C-C": 3.2, "C-O": 2.8, "O-O": 2.7},
    }  # fmt: skip
    config.write_text(yaml.safe_dump({"search": search}))
    arguments = ["--run", str(tmp_path / "run"), "--profile", "smoke", "--config", str(config), "-q", "--json"]
    status, out = nanh2(capsys, "search", "--compound", str(compound), *arguments)
    assert status == 0
    assert json.loads(out)["space_groups"] == {"Pa-3": 2, "P2_12_12_1": 2}
    status, out = nanh2(capsys, "label", *arguments, "--executor", "serial")
    assert status == 0
    assert json.loads(out)["labelled"] == 4


def test_the_units_that_crystals_must_be_made_of_can_be_declared(tmp_path, capsys):
    ice = next(item for item in COMPOUNDS if item.name == "KNH2").structure()
    cif, compound = tmp_path / "knh2.cif", tmp_path / "k.yaml"
    ice.to(filename=str(cif))
    compound.write_text(yaml.safe_dump({"name": "KNH2", "units": [{"name": "K"}, {"name": "NH2"}]}))
    assert run(["validate", str(cif), "--compound", str(compound)]) == 0
    compound.write_text(yaml.safe_dump({"name": "NaNH2", "units": [{"name": "Na"}, {"name": "NH2"}]}))
    capsys.readouterr()
    status, out = nanh2(capsys, "validate", str(cif), "--compound", str(compound), "--json")
    assert status == 1
    assert "'K', which is not a unit of NaNH2" in json.loads(out)[0]["reason"]


def test_every_name_of_the_python_interface_is_there():
    import nanh2lib

    expected = {
        "published_structures", "reference_structure", "random_search", "extract_asymmetric_unit", "expand",
        "expand_tensors", "encode", "decode", "train_noise_model", "train_energy_model", "sample", "validate",
        "relax", "rank",
    }  # fmt: skip
    assert expected <= set(dir(nanh2lib))
    assert all(callable(getattr(nanh2lib, name)) for name in expected)
    item = nanh2lib.published_structures()[3]
    assert (item.table, item.space_group, item.z) == ("S1", "P2_1", 16)
    assert item.structure_as_printed.lattice.gamma == pytest.approx(120)
    assert item.errata
    unit = nanh2lib.extract_asymmetric_unit(item.structure, symprec=1e-2, anchor="canonical")
    assert len(unit.units) == len(unit.wyckoff_letters) == 16
    assert (unit.hall_number, unit.space_group_number) == (6, 4)


@pytest.mark.parametrize(
    ("profile", "words"), [("smoke", "about "), ("default", "about "), ("full", " hours on two cores")]
)
def test_a_run_says_beforehand_how_long_it_takes(profile, words, tmp_path, monkeypatch, capsys):
    """Before any work: here the work itself is stopped."""
    from nanh2lib.errors import ComputationError
    from nanh2lib.pipeline import reproduce as work

    def stop(*args, **kwargs):
        raise ComputationError("stopped by the test")

    monkeypatch.setattr(work, "reproduce", stop)
    status, out = nanh2(capsys, "reproduce", "--profile", profile, "--run", str(tmp_path / "run"))
    assert status == 1
    assert words in out
    assert "on two cores; every stage resumes after a kill" in out


def test_profiles_keep_their_promises_of_time():
    from nanh2lib.config import load_config

    minutes = {name: load_config(name).expected_minutes for name in ("smoke", "default", "full")}
    assert 0 < minutes["smoke"] <= 10
    assert minutes["smoke"] <= minutes["default"] < 30 < minutes["full"]


def test_long_work_shows_a_bar_unless_told_not_to(tmp_path, capsys):
    config = tmp_path / "tiny.yaml"
    config.write_text(yaml.safe_dump({"search": {"space_groups": ["hall:81"], "per_setting": 1}}))
    for option, shown in (("--json", True), ("-q", False)):
        arguments = ["search", "--run", str(tmp_path / option), "--profile", "smoke", "--config", str(config), option]
        assert run(arguments) == 0
        assert ("random search" in capsys.readouterr().err) == shown

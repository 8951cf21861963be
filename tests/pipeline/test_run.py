"""The folder of a run and its store: named once, kept to, its password never written down."""

from __future__ import annotations

from pathlib import Path

import pytest

from nanh2lib.cli.app import run as nanh2
from nanh2lib.config import load_config
from nanh2lib.errors import InputError, StoreError
from nanh2lib.pipeline.run import CONFIG_FILE, open_run
from tests.store.conftest import make_candidates


def smoke(store: str | None = None):
    return load_config("smoke").model_copy(update={"store": store})


def test_a_run_keeps_to_the_store_it_began_with(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    begun = open_run(tmp_path / "run", smoke("elsewhere.db"), progress=False)
    begun.store.add(make_candidates(2))
    monkeypatch.chdir("/")
    assert open_run(tmp_path / "run", smoke()).store.count() == 2
    assert not (tmp_path / "run" / "candidates.db").exists()
    with pytest.raises(InputError, match="store differ"):
        open_run(tmp_path / "run", smoke("another.db"))


def test_a_run_without_a_named_store_cannot_be_given_one_later(tmp_path):
    open_run(tmp_path / "run", smoke()).store.add(make_candidates(1))
    with pytest.raises(InputError, match="store differ"):
        open_run(tmp_path / "run", smoke("postgresql://me@host/name"))


def test_the_password_is_used_but_not_written_down(tmp_path):
    url = "postgresql://me:s3cret@host:5432/name?sslmode=require&password=0ther"
    run = open_run(tmp_path / "run", smoke(url))
    assert run.config.store == url
    written = (tmp_path / "run" / CONFIG_FILE).read_text()
    assert "postgresql://me@host:5432/name?sslmode=require" in written
    assert "s3cret" not in written
    assert "0ther" not in written
    assert open_run(tmp_path / "run", smoke(url)).config.store == url
    assert open_run(tmp_path / "run", smoke()).config.store == "postgresql://me@host:5432/name?sslmode=require"


def test_a_url_that_cannot_be_read_begins_no_run(tmp_path):
    with pytest.raises(StoreError, match="not a URL like postgresql://"):
        open_run(tmp_path / "run", smoke("postgresql://me:s3/cret@host/name"))
    assert not (tmp_path / "run").exists()


@pytest.mark.scale
def test_a_run_on_postgresql_from_the_command_line(tmp_path, postgresql_url, capsys):
    config = tmp_path / "tiny.yaml"
    config.write_text("search: {space_groups: ['hall:335'], per_setting: 1, max_draws_per_setting: 10}\n")
    options = ["--run", str(tmp_path / "run"), "--profile", "smoke", "--config", str(config), "-q"]
    assert nanh2(["search", *options, "--store", postgresql_url]) == 0
    assert nanh2(["label", *options, "--executor", "serial"]) == 0  # the run knows its store
    assert "labelled: 1" in capsys.readouterr().out
    assert not list(Path(tmp_path / "run").glob("*.db"))

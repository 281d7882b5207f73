"""Scripts, presets and docs are where a user can get at them, from a wheel as from a checkout."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import get_args

import pytest

from wsi_engine import bundled_files
from wsi_engine.bundled_files import Bundle, bundled_folder, copy_bundle
from wsi_engine.errors import OutputError

ROOT = Path(bundled_files.__file__).parents[1]


@pytest.mark.parametrize("bundle", get_args(Bundle))
def test_every_file_is_copied_as_it_is(tmp_path: Path, bundle: Bundle):
    source = bundled_folder(bundle)
    written = copy_bundle(bundle, tmp_path / "new")
    assert {path.relative_to(tmp_path / "new") for path in written} == {
        path.relative_to(source) for path in source.rglob("*") if path.is_file()
    }
    for path in written:
        assert path.read_bytes() == (source / path.relative_to(tmp_path / "new")).read_bytes()


def test_the_wheel_holds_them_where_they_are_looked_for():
    wheel = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"][
        "targets"
    ]["wheel"]
    assert wheel["force-include"] == {
        name: f"wsi_engine/bundled/{name}" for name in sorted(get_args(Bundle))
    }


def test_what_was_edited_is_not_replaced(tmp_path: Path):
    script, *_ = copy_bundle("qupath_scripts", tmp_path)
    script.write_text("mine")
    with pytest.raises(OutputError, match="is there already: give another folder"):
        copy_bundle("qupath_scripts", tmp_path)
    assert script.read_text() == "mine"


def test_an_installation_without_them_is_told(monkeypatch, tmp_path: Path):
    monkeypatch.setattr(bundled_files, "__file__", str(tmp_path / "wsi_engine" / "x.py"))
    with pytest.raises(OutputError, match="came without its configs: install wsi-engine again"):
        bundled_folder("configs")

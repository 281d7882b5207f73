"""Whoever does what a tutorial says gets what it shows: each block of it is run, in its order."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.support.tutorials import blocks, follow

ROOT = Path(__file__).parents[1]
TUTORIALS = ROOT / "docs" / "tutorials"


@pytest.fixture
def environment(tmp_path: Path) -> Mapping[str, str]:
    """This Python as `python`, `pip` and `wsi-engine`; what pip installs goes into a folder."""
    programs, installed = tmp_path / "programs", tmp_path / "installed"
    programs.mkdir()
    for name, call in {"wsi-engine": "-m wsi_engine", "pip": "-m pip", "python": ""}.items():
        program = programs / name
        program.write_text(f'#!/bin/sh\nexec "{sys.executable}" {call} "$@"\n')
        program.chmod(0o755)
    return {
        "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": f"{installed}{os.pathsep}{ROOT}",
        "PIP_TARGET": str(installed),
        "PIP_NO_INDEX": "1",
        "PIP_NO_BUILD_ISOLATION": "0",  # pip's word for "without"
        "COLUMNS": "100",
    }


@pytest.fixture
def desk(tmp_path: Path) -> Path:
    folder = tmp_path / "desk"
    folder.mkdir()
    return folder


def test_pathologist(desk: Path, environment: Mapping[str, str]):
    follow(TUTORIALS / "pathologist.md", desk, environment)
    assert (desk / "results" / "slide" / "corrections.geojson.gz").exists()
    assert (desk / "results" / "next" / "classifier.json").exists()
    assert (desk / "results" / "cohort.html").exists()

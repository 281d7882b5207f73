"""What the engine says about installing itself, and what `make` does before it installs."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from wsi_engine import doctor, installing
from wsi_engine.installing import install_command

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


@pytest.mark.parametrize(
    ("is_checkout", "stands_in_it", "command"),
    [
        (True, True, 'pip install -e ".[onnx]"'),
        (True, False, 'pip install -e "{place}[onnx]"'),
        (False, True, 'pip install "wsi-engine[onnx]"'),
    ],
)
def test_a_checkout_is_installed_from_where_it_is(
    monkeypatch, tmp_path, is_checkout, stands_in_it, command
):
    place = tmp_path / "place"
    place.mkdir()
    if is_checkout:
        (place / "pyproject.toml").touch()
    monkeypatch.setattr(installing, "CHECKOUT", place)
    monkeypatch.chdir(place if stands_in_it else tmp_path)
    assert install_command("onnx") == command.format(place=place)


def test_this_is_a_checkout(monkeypatch):
    monkeypatch.chdir(ROOT)
    assert install_command("onnx") == 'pip install -e ".[onnx]"'


def test_doctor_names_extras_that_there_are(monkeypatch):
    monkeypatch.setattr(doctor.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(doctor, "_openvino", lambda: doctor.Finding("openvino", "none"))
    advice = [each.advice for each in doctor.examine() if each.name in doctor.EXTRAS]
    assert len(advice) == len(doctor.EXTRAS)
    for text, (_, extra) in zip(advice, doctor.EXTRAS.values(), strict=True):
        assert extra in PROJECT["optional-dependencies"]
        assert text.endswith(install_command(extra))


def old_python(path: Path, pretence: str) -> Path:
    """Write a Python that pretends something, for a line that it is given by ``-c``."""
    path.write_text(
        f'#!/bin/sh\n[ "$1" = -c ] && exec {sys.executable} -c "{pretence}\n$2"\nexit 9\n'
    )
    path.chmod(0o755)
    return path


@pytest.mark.skipif(shutil.which("make") is None, reason="needs make")
@pytest.mark.parametrize(
    "target", ["demo", "test", "test-spatialdata", "test-snakemake", "check", "site"]
)
@pytest.mark.parametrize(
    ("pretence", "words"),
    [
        ("import sys; sys.version_info = (3, 9, 2)", "is Python 3.9, and"),
        ("import sys; sys.modules['ensurepip'] = None", "cannot make environments"),
    ],
)
def test_make_refuses_a_python_that_cannot_do_it(tmp_path, target, pretence, words):
    for name in ("Makefile", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path)
    python = old_python(tmp_path / "old python", pretence)
    done = subprocess.run(
        ["make", target, f"PYTHON={str(python).replace(' ', chr(92) + ' ')}"],
        cwd=tmp_path,
        env={"PATH": os.environ["PATH"], "LC_ALL": "C"},
        capture_output=True,
        text=True,
    )
    assert done.returncode != 0
    said = [line for line in done.stderr.splitlines() if not line.startswith("make")]
    assert len(said) == 1
    assert words in said[0]
    assert "PYTHON=" in said[0]
    assert not [path.name for path in tmp_path.iterdir() if path.is_dir()]

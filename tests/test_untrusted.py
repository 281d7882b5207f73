"""Files that others wrote, of the kinds that can hurt: nothing in them runs or leads astray.

Slides, GeoJSON and results of other tools have tests of their own; here are weights, presets,
checkpoints and result folders on a shared disk.
"""

from __future__ import annotations

import ast
import json
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save

import wsi_engine
from wsi_engine.cli import main
from wsi_engine.models.registry import find_model
from wsi_engine.models.starconvex.model import WEIGHTS_KEY

PACKAGE = Path(wsi_engine.__file__).parent


class Trap:
    """Unpickled, it leaves a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.mark.parametrize("model", ["starconvex", "hovernet_fast-pannuke"])
@pytest.mark.parametrize("suffix", [".pth", ".pt", ".tar", ".safetensors"])
def test_weights_that_are_a_pickle_run_nothing(tmp_path, model, suffix):
    if model not in wsi_engine.available_models():
        pytest.skip("needs TIAToolbox")
    for k, write in enumerate(
        (torch.save, lambda value, path: path.write_bytes(pickle.dumps(value)))
    ):
        weights = tmp_path / f"weights{k}{suffix}"
        write({"desc": Trap(tmp_path / "trapped")}, weights)
        with pytest.raises(wsi_engine.EngineError):
            find_model(model).load(weights)
    assert not (tmp_path / "trapped").exists()


def weights_with(description: object, path: Path) -> Path:
    state = {"x": torch.zeros(1)}
    path.write_bytes(save(state, metadata={WEIGHTS_KEY: json.dumps(description)}))
    return path


@pytest.mark.parametrize(
    "description",
    [
        None,
        [],
        {},
        {"channels": 3, "features": 1, "rays": 1},
        {"channels": ["a"], "features": 1, "rays": 1},
        {"channels": [8, 8, 8], "features": -1, "rays": 32},
        {"channels": [8, 8, 8], "features": 8, "rays": 32, "classes": 5},
    ],
    ids=str,
)
def test_weights_of_a_network_that_cannot_be_are_an_error(tmp_path, description):
    with pytest.raises(wsi_engine.EngineError, match="holds no star-convex network"):
        find_model("starconvex").load(weights_with(description, tmp_path / "w.safetensors"))


WEIGHTS_READER = PACKAGE / "models" / "state_dict.py"
"""Reads what torch writes, which is a pickle, by a class that makes arrays and nothing else;
test_models_state_dict.py gives it others."""


def test_nothing_in_the_package_unpickles_or_evaluates():
    """Found in the syntax tree, so that a mention in a text is none."""
    forbidden = {"eval", "exec", "__import__"}
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            match node:
                case ast.Import(names=names):
                    modules = {name.name for name in names} & {"pickle", "marshal", "shelve"}
                    assert not modules or (path, modules) == (WEIGHTS_READER, {"pickle"}), path
                case ast.ImportFrom(module=module):
                    assert module not in {"pickle", "marshal", "shelve"}, path
                case ast.Call(func=ast.Name(id=name)):
                    assert name not in forbidden, path
                case ast.Call(func=ast.Attribute(ast.Name(id="torch"), "load"), keywords=keywords):
                    given = {keyword.arg: ast.literal_eval(keyword.value) for keyword in keywords}
                    assert given.get("weights_only") is True, path
                case ast.Call(func=ast.Attribute(ast.Name(id="yaml"), name)):
                    assert name in {"safe_load", "safe_dump"}, path
                case ast.Call(func=ast.Attribute(ast.Name(id="np"), "load"), keywords=keywords):
                    given = {keyword.arg: ast.literal_eval(keyword.value) for keyword in keywords}
                    assert given.get("allow_pickle", False) is False, path


def test_what_reads_weights_chooses_itself_what_a_pickle_may_name():
    tree = ast.parse(WEIGHTS_READER.read_text(encoding="utf-8"))
    used = {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "pickle"
    }
    assert used == {"Unpickler", "UnpicklingError"}
    readers = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef) and "pickle.Unpickler" in map(ast.unparse, node.bases)
    ]
    assert len(readers) == sum(
        ast.unparse(node) == "pickle.Unpickler" for node in ast.walk(tree)
    ), "nobody uses that of Python as it is"
    for reader in readers:
        names = {node.name for node in reader.body if isinstance(node, ast.FunctionDef)}
        assert {"find_class", "persistent_load"} <= names


# --- A shared folder of results -----------------------------------------------------------------


HOSTILE: list[object] = [None, [], {}, "x", -1, 1e308, "../..", {"x": None}, [None]]


@pytest.fixture
def result(finished_run: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished_run, tmp_path / "out" / "sample"))


def run(*arguments: object) -> int:
    """Return the exit code; what is raised beside is a traceback for the user."""
    try:
        main([str(argument) for argument in arguments])
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 0
    return 0


@pytest.mark.parametrize(
    "name", ["nuclei", "settings", "files", "basis", "slide", "tiles", "model"]
)
@pytest.mark.parametrize("seed", range(2))
def test_a_record_that_somebody_made_up_gives_no_traceback(result, sample, capsys, name, seed):
    rng = np.random.default_rng([seed, len(name)])
    record = json.loads((result / "run.json").read_text("utf-8"))
    part = record[name]
    values = [part, *(part[key] for key in part)] if isinstance(part, dict) else [part]
    for k in range(min(len(values), 6)):
        made_up = json.loads(json.dumps(record))
        if k == 0:
            made_up[name] = HOSTILE[rng.integers(len(HOSTILE))]
        else:
            key = sorted(part)[rng.integers(len(part))]
            made_up[name][key] = HOSTILE[rng.integers(len(HOSTILE))]
        (result / "run.json").write_text(json.dumps(made_up))
        for command in (
            ("status", result.parent),
            ("verify", result.parent),
            ("apply", result / "nuclei.geojson.gz", result),
            (
                "run",
                sample.slide_path,
                "-o",
                result.parent,
                "--model",
                "watershed",
                "--tile-size",
                64,
            ),
        ):
            assert run(*command) in (0, 1)
            assert "Traceback" not in capsys.readouterr().err

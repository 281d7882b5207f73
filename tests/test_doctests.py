"""Whatever is public is documented in full, and every example in a docstring runs as it is shown.

Examples run in a folder with a small slide, `slide.tif`, and the result of a run on it,
`results/slide`; each module has a copy of its own.
"""

from __future__ import annotations

import dataclasses
import doctest
import importlib
import inspect
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

import wsi_engine
from wsi_engine.sample import write_sample

PACKAGE = Path(wsi_engine.__file__).parent
SECTION = re.compile(r"^([A-Z][\w ]+)\n-+\n", re.MULTILINE)
PUBLIC = [name for name in wsi_engine.__all__ if callable(getattr(wsi_engine, name))]
FUNCTIONS = [name for name in PUBLIC if inspect.isfunction(getattr(wsi_engine, name))]
CLASSES = [name for name in PUBLIC if name not in FUNCTIONS]
WITH_EXAMPLES = [
    ".".join(("wsi_engine", *path.relative_to(PACKAGE).with_suffix("").parts))
    for path in sorted(PACKAGE.rglob("*.py"))
    if ">>> " in path.read_text(encoding="utf-8")
]


def sections(name: str) -> dict[str, str]:
    """Return the text of each numpydoc section of a public name."""
    _, *parts = SECTION.split(inspect.getdoc(getattr(wsi_engine, name)) or "")
    return dict(zip(parts[::2], parts[1::2], strict=True))


def described(section: str) -> list[str]:
    """Return the names that a section describes."""
    heads = re.findall(r"^(\S.*)$", section, re.MULTILINE)
    return [name.strip(" *") for head in heads for name in head.partition(" :")[0].split(",")]


@pytest.fixture(scope="session")
def example_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("examples")
    write_sample(folder / "slide.tif", seed=1, field_px=256)
    wsi_engine.run(folder / "slide.tif", folder / "results", model="watershed")
    return folder


def test_all_but_the_version_is_a_function_or_a_class():
    assert set(wsi_engine.__all__) - set(PUBLIC) == {"__version__"}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_public_function_says_what_it_takes_gives_and_raises(name):
    signature, said = inspect.signature(getattr(wsi_engine, name)), sections(name)
    assert described(said.get("Parameters", "")) == list(signature.parameters)
    assert ("Returns" in said or "Yields" in said) == (signature.return_annotation != "None")
    assert "Raises" in said or not signature.parameters


@pytest.mark.parametrize("name", CLASSES)
def test_a_public_class_says_what_it_holds(name):
    kind, said = getattr(wsi_engine, name), sections(name)
    assert said.keys() & {"Parameters", "Attributes", "Methods"}
    if dataclasses.is_dataclass(kind):
        names = described(said.get("Parameters", "")) + described(said.get("Attributes", ""))
        assert {field.name for field in dataclasses.fields(kind)} <= set(names)


@pytest.mark.parametrize("name", PUBLIC)
def test_whatever_is_public_has_an_example_that_runs(name):
    documented = getattr(wsi_engine, name)
    (found,) = doctest.DocTestFinder(recurse=False).find(documented, name)
    assert found.examples
    assert not any(doctest.SKIP in example.options for example in found.examples)
    assert documented.__module__ in WITH_EXAMPLES


@pytest.mark.parametrize("module", WITH_EXAMPLES)
def test_examples_give_what_they_show(module, example_folder, tmp_path, monkeypatch):
    shutil.copytree(example_folder, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    report = doctest.testmod(importlib.import_module(module), extraglobs={"np": np})
    assert report.attempted > 0
    assert report.failed == 0

"""Container and conda recipe: they install what pyproject.toml says, from what there is.

Neither base images nor channels of conda are on an index of packages, so that no test builds
either. What they would do is done: the recipe is read by rattler-build, and the wheel is built of
nothing but the files that the container copies.
"""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path
from typing import get_args

import pytest
import rattler_build
import yaml
from packaging.requirements import Requirement

from wsi_engine import __version__
from wsi_engine.bundled_files import Bundle

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
RECIPE = ROOT / "packaging" / "conda" / "recipe.yaml"
CONTAINER = ROOT / "packaging" / "container" / "Containerfile"

CONDA_NAMES = {"openslide-bin": "openslide", "torch": "pytorch"}
"""Packages that conda-forge calls otherwise; its openslide is the library that the wheel holds."""


def instructions() -> list[tuple[str, str]]:
    """Return the instructions of the container file with what follows them."""
    text = re.sub(r"^\s*#.*\n", "", CONTAINER.read_text(encoding="utf-8"), flags=re.MULTILINE)
    lines = text.replace("\\\n", " ").splitlines()
    return [(word, rest) for word, _, rest in (line.partition(" ") for line in lines) if word]


def copied() -> list[str]:
    """Return what the container copies from the checkout."""
    return [
        source
        for word, rest in instructions()
        if word == "COPY" and not rest.startswith("--from=")
        for source in shlex.split(rest)[:-1]
    ]


# --- conda ------------------------------------------------------------------------------------


def test_the_recipe_requires_what_the_project_requires():
    project = {
        f"{CONDA_NAMES.get(each.name, each.name)} {each.specifier}"
        for each in map(Requirement, PROJECT["project"]["dependencies"])
    }
    recipe = yaml.safe_load(RECIPE.read_text(encoding="utf-8"))
    python = f"python {PROJECT['project']['requires-python']}"
    assert set(recipe["requirements"]["run"]) == project | {python}
    assert set(recipe["requirements"]["host"]) == {
        python,
        "pip",
        *(
            str(Requirement(each)).replace(">=", " >=")
            for each in PROJECT["build-system"]["requires"]
        ),
    }


def test_the_recipe_says_what_the_project_says():
    recipe = yaml.safe_load(RECIPE.read_text(encoding="utf-8"))
    project = PROJECT["project"]
    assert recipe["context"]["version"] == __version__
    assert recipe["package"]["name"] == project["name"]
    scripts = [f"{name} = {call}" for name, call in project["scripts"].items()]
    assert recipe["build"]["python"]["entry_points"] == scripts
    assert recipe["about"]["summary"] == project["description"]
    assert recipe["about"]["license"] == project["license"]
    assert (ROOT / recipe["about"]["license_file"]).is_file()
    assert (RECIPE.parent / recipe["source"]["path"]).resolve() == ROOT


def test_rattler_build_takes_the_recipe():
    (variant,) = rattler_build.Stage0Recipe.from_file(str(RECIPE)).render(
        rattler_build.VariantConfig()
    )
    rendered = variant.recipe.to_dict()
    assert rendered["package"] == {"name": "wsi-engine", "version": __version__}
    assert rendered["build"]["noarch"] == "python"


# --- container --------------------------------------------------------------------------------


def test_the_container_copies_only_what_there_is():
    assert copied()
    assert all((ROOT / name).exists() for name in copied())


def test_nothing_else_is_sent_to_be_built_from():
    ignored = CONTAINER.with_name("Containerfile.dockerignore").read_text(encoding="utf-8")
    lines = [line for line in ignored.splitlines() if not line.startswith("#")]
    assert lines[0] == "*"
    assert sorted(line[1:] for line in lines if line.startswith("!")) == sorted(copied())


def test_what_the_container_copies_is_enough_for_the_wheel(tmp_path: Path):
    context = tmp_path / "context"
    context.mkdir()
    for name in copied():
        (context / name).symlink_to(ROOT / name)
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-index"]
    subprocess.run(
        [*pip, "--no-build-isolation", "--wheel-dir", str(tmp_path), str(context)], check=True
    )
    (wheel,) = tmp_path.glob("*.whl")
    held = set(zipfile.ZipFile(wheel).namelist())
    for bundle in get_args(Bundle):
        for path in (ROOT / bundle).rglob("*"):
            if path.is_file():
                assert f"wsi_engine/bundled/{path.relative_to(ROOT).as_posix()}" in held
    weights = (ROOT / "wsi_engine" / "models" / "weights").iterdir()
    assert {f"wsi_engine/models/weights/{path.name}" for path in weights} <= held


def test_the_container_runs_the_command_as_nobody_in_particular():
    stages = [rest for word, rest in instructions() if word == "FROM"]
    assert len(stages) == 2
    (arguments,) = {rest for word, rest in instructions() if rest.startswith("PYTHON=")}
    assert all(stage.startswith("python:${PYTHON}-slim") for stage in stages)
    assert Requirement(f"python{PROJECT['project']['requires-python']}").specifier.contains(
        arguments.removeprefix("PYTHON=")
    )
    settings = dict(instructions()[::-1])
    assert settings["USER"].split(":")[0] not in ("root", "0")
    (program,) = yaml.safe_load(settings["ENTRYPOINT"])
    assert program in PROJECT["project"]["scripts"]


def test_extras_of_the_container_are_there():
    (extras,) = [rest for word, rest in instructions() if rest.startswith("EXTRAS=")]
    names = extras.removeprefix("EXTRAS=").split(",")
    assert set(names) <= set(PROJECT["project"]["optional-dependencies"])


# --- what is handed on --------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["packaging", "mkdocs.yml", "docs", "configs", "tests"])
def test_a_source_distribution_can_build_site_container_and_recipe(name: str):
    assert name in PROJECT["tool"]["hatch"]["build"]["targets"]["sdist"]["include"]


def test_no_file_here_names_a_server():
    """Where packages and images come from is for whoever builds to say."""
    files = [path for path in (ROOT / "packaging").rglob("*") if path.is_file()]
    files += [path for path in (ROOT / "configs" / "snakemake").rglob("*") if path.is_file()]
    for path in files:
        if path.suffix != ".pyc":
            assert not re.search(r"https?://|docker\.io|quay\.io", path.read_text("utf-8")), path

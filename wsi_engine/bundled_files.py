"""The files that come with the engine beside its code: QuPath scripts, presets, docs."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Literal

from wsi_engine.errors import OutputError
from wsi_engine.writing import clear_write_errors

Bundle = Literal["qupath_scripts", "configs", "docs"]


def bundled_folder(bundle: Bundle) -> Path:
    """Return where files are that came with the engine: in its package, or in a checkout of it.

    Raises
    ------
    OutputError
        When the installation lacks them.
    """
    package = Path(__file__).parent
    for folder in (package / "bundled" / bundle, package.parent / bundle):
        if folder.is_dir():
            return folder
    raise OutputError(f"{package} came without its {bundle}: install wsi-engine again")


def copy_bundle(bundle: Bundle, folder: Path) -> list[Path]:
    """Copy files that came with the engine, and return where they are now, by name.

    Nothing that is there is replaced, as presets and scripts are there to be edited.

    Raises
    ------
    OutputError
        When one of them is there already, or cannot be written.
    """
    source = bundled_folder(bundle)
    names = sorted(path.relative_to(source) for path in source.rglob("*") if path.is_file())
    for name in names:
        if (folder / name).exists():
            raise OutputError(f"{folder / name} is there already: give another folder")
    with clear_write_errors(folder):
        for name in names:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source / name, folder / name)
    return [folder / name for name in names]

"""The commands that a user has after the installation, for shells that tests start."""

from __future__ import annotations

import os
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
COMMANDS = {"wsi-engine": "-m wsi_engine", "pip": "-m pip", "python": ""}


def provide_programs(folder: Path) -> dict[str, str]:
    """Write `wsi-engine`, `pip` and `python` of this environment; return what finds them.

    What pip installs goes into ``folder/installed``, without a look at an index.
    """
    programs, installed = folder / "programs", folder / "installed"
    programs.mkdir(parents=True)
    for name, call in COMMANDS.items():
        program = programs / name
        program.write_text(f'#!/bin/sh\nexec "{sys.executable}" {call} "$@"\n')
        program.chmod(0o755)
    return {
        "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": f"{installed}{os.pathsep}{ROOT}",
        "PIP_TARGET": str(installed),
        "PIP_NO_INDEX": "1",
        "PIP_NO_DEPS": "1",
        "PIP_NO_BUILD_ISOLATION": "0",  # pip's word for "without"
        "COLUMNS": "100",
    }

"""Running Groovy, the language of QuPath's scripts."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest


def groovy(*arguments: object) -> str:
    """Return what Groovy prints; without it the test is skipped."""
    command = shutil.which("groovy")
    java = shutil.which("java")
    if command is None or java is None:
        pytest.skip("needs Groovy and Java")
    home = Path(java).resolve().parents[1]
    done = subprocess.run(
        [command, *map(str, arguments)],
        env=os.environ | {"JAVA_HOME": str(home)},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout

"""Packages of other people: written, built as a wheel, and installed by pip into a folder."""

from __future__ import annotations

import base64
import hashlib
import os
import subprocess
import sys
import textwrap
import zipfile
from collections.abc import Mapping
from pathlib import Path

import wsi_engine


def install_package(
    folder: Path, name: str, source: str, entry_points: Mapping[str, Mapping[str, str]]
) -> Path:
    """Build and install a package of one module; return the folder for PYTHONPATH.

    Parameters
    ----------
    folder
        Where packages are installed; several share one.
    name
        Name of the package and, with ``_`` for ``-``, of its module.
    source
        Text of the module.
    entry_points
        ``module:object`` by name, by group.
    """
    module = name.replace("-", "_")
    groups = [
        f"[{group}]\n" + "".join(f"{key} = {value}\n" for key, value in points.items())
        for group, points in entry_points.items()
    ]
    about = f"{module}-1.0.dist-info"
    files = {
        f"{module}.py": textwrap.dedent(source),
        f"{about}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n",
        f"{about}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{about}/entry_points.txt": "\n".join(groups),
    }
    files[f"{about}/RECORD"] = "".join(
        [f"{path},sha256={_hash(text)},{len(text.encode())}\n" for path, text in files.items()]
        + [f"{about}/RECORD,,\n"]
    )
    folder.mkdir(parents=True, exist_ok=True)
    wheel = folder / f"{module}-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for path, text in files.items():
            archive.writestr(path, text)
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", "install"]
    subprocess.run(
        [*pip, "--no-deps", "--no-index", "--target", str(folder), str(wheel)], check=True
    )
    wheel.unlink()
    return folder


def with_packages(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run Python with the packages of a folder installed, and this wsi_engine."""
    own = Path(wsi_engine.__file__).parents[1]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(folder), str(own)])}
    command = [sys.executable, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)


def _hash(text: str) -> str:
    digest = hashlib.sha256(text.encode()).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()

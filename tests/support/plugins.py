"""Packages that are really built and installed, for what the engine takes from others."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path


def install_package(
    folder: Path, name: str, source: str, entry_points: dict[str, dict[str, str]]
) -> Path:
    """Build a wheel of one module and install it with pip, without a network.

    Parameters
    ----------
    folder
        Where it is built, and installed.
    name
        Name of the package and of its module.
    source
        Text of the module.
    entry_points
        By group, then by name: what is loaded, such as ``{"name": "module:OBJECT"}``.

    Returns
    -------
    Path
        What must stand on ``PYTHONPATH``.
    """
    # A wheel is a zip file: so no build backend is needed, and none can be too old.
    wheel = folder / f"{name}-1.0-py3-none-any.whl"
    lines = []
    for group, points in entry_points.items():
        lines += [f"[{group}]", *(f"{point} = {value}" for point, value in points.items())]
    files = {
        f"{name}.py": source,
        f"{name}-1.0.dist-info/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n",
        f"{name}-1.0.dist-info/WHEEL": (
            "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        ),
        f"{name}-1.0.dist-info/entry_points.txt": "\n".join(lines) + "\n",
    }
    record = f"{name}-1.0.dist-info/RECORD"
    files[record] = "".join(f"{path},,\n" for path in [*files, record])
    with zipfile.ZipFile(wheel, "w") as archive:
        for path, content in files.items():
            archive.writestr(path, content)
    target = folder / "site"
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index"]
    command += ["--disable-pip-version-check", "--target", str(target), str(wheel)]
    subprocess.run(command, check=True, capture_output=True, text=True)
    return target

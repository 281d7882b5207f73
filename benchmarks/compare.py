"""Two builds of this package on the same slides, by turns, from Enter to exit.

    python benchmarks/compare.py BUILD_A BUILD_B SLIDE... [--repeat 5] [--cold] [--warm-up] [--here]
    python benchmarks/compare.py f6559a1 . slide.tif -- --model watershed

A build is a commit, or a folder with a checkout. Each is installed into an environment of its own;
with ``--here`` both run in the environment of this script instead, which must hold what they
depend on. Every run is a process of its own: wall time, processor time of all its threads, and
peak memory; medians and their ratios are printed. What follows ``--`` goes to both.

With ``--cold`` every run begins with empty caches, as the first one after an installation does.
Otherwise each build runs once before it is measured; with ``--warm-up`` each compiles its default
network first, where it can.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
import venv
from dataclasses import dataclass, replace
from pathlib import Path

ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Build:
    """A build that can be run."""

    name: str
    files: Path
    command: tuple[str, ...]
    environment: dict[str, str]


@dataclass(frozen=True)
class Cost:
    """What one process took."""

    wall_s: float
    cpu_s: float
    peak_mib: float


def checkout(build: str, folder: Path) -> Path:
    """Return a folder with the files of a build: its own, or those of a commit."""
    if Path(build).is_dir():
        return Path(build).resolve()
    archive = subprocess.run(
        ["git", "archive", build], cwd=ROOT, check=True, capture_output=True
    ).stdout
    folder.mkdir()
    subprocess.run(["tar", "x", "-C", folder], input=archive, check=True)
    return folder


def prepare(build: str, folder: Path, *, here: bool) -> Build:
    """Make a build ready to run."""
    files = checkout(build, folder / "files")
    python = Path(sys.executable)
    # Else every import would compile its source again, as no installation does.
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    if here:
        environment["PYTHONPATH"] = str(files)
    else:
        venv.create(folder / "environment", with_pip=True)
        python = folder / "environment" / ("Scripts" if os.name == "nt" else "bin") / "python"
        subprocess.run([python, "-m", "pip", "install", "--quiet", files], check=True)
    environment |= {
        "XDG_CACHE_HOME": str(folder / "cache"),
        "NUMBA_CACHE_DIR": str(folder / "kernels"),
    }
    return Build(build, files, (str(python), "-m", "wsi_engine"), environment)


def cost_of(build: Build, *arguments: str) -> Cost:
    """Run a build once, from its own files, which come before all others for its imports."""
    return cost_of_process([*build.command, *arguments], build.files, build.environment)


def cost_of_process(
    command: list[str], folder: Path | None = None, environment: dict[str, str] | None = None
) -> Cost:
    """Run a command, in a folder and environment other than this one if given; end if it fails."""
    with tempfile.TemporaryFile() as said:
        start = time.perf_counter()
        process = subprocess.Popen(command, cwd=folder, env=environment, stdout=said, stderr=said)
        _, status, used = os.wait4(process.pid, 0)
        wall = time.perf_counter() - start
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            said.seek(0)
            sys.exit(f"{' '.join(command)} failed:\n{said.read().decode()}")
    return Cost(wall, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024)


def measure(
    builds: list[Build], slide: Path, options: list[str], repeats: int, *, cold: bool
) -> list[list[Cost]]:
    """Run the builds by turns; return what each run of each took."""
    costs: list[list[Cost]] = [[] for _ in builds]
    for round_ in range(repeats + (not cold)):
        for build, taken in zip(builds, costs, strict=True):
            with tempfile.TemporaryDirectory() as scratch:
                turn = build
                if cold:
                    caches = {"XDG_CACHE_HOME": scratch, "NUMBA_CACHE_DIR": scratch}
                    turn = replace(build, environment=build.environment | caches)
                cost = cost_of(turn, "run", str(slide.resolve()), "-o", f"{scratch}/out", *options)
            if cold or round_:
                taken.append(cost)
    return costs


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("builds", nargs=2, metavar="BUILD")
    parser.add_argument("slides", nargs="+", type=Path, metavar="SLIDE")
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--cold", action="store_true")
    parser.add_argument("--warm-up", action="store_true")
    parser.add_argument("--here", action="store_true")
    split = sys.argv.index("--") if "--" in sys.argv else len(sys.argv)
    arguments, options = parser.parse_args(sys.argv[1:split]), sys.argv[split + 1 :]
    with tempfile.TemporaryDirectory() as scratch:
        folders = [Path(scratch) / name for name in "ab"]
        for folder in folders:
            folder.mkdir()
        builds = [
            prepare(build, folder, here=arguments.here)
            for build, folder in zip(arguments.builds, folders, strict=True)
        ]
        if arguments.warm_up:
            for build in builds:
                cost_of(build, "warm-up")
        print(f"| slide | figure | {builds[0].name} | {builds[1].name} | ratio |")
        print("|---|---|---|---|---|")
        for slide in arguments.slides:
            taken = measure(builds, slide, options, arguments.repeat, cold=arguments.cold)
            for figure in ("wall_s", "cpu_s", "peak_mib"):
                old, new = (statistics.median(getattr(c, figure) for c in each) for each in taken)
                print(f"| {slide.name} | {figure} | {old:.2f} | {new:.2f} | {new / old:.2f} |",
                      flush=True)  # fmt: skip


if __name__ == "__main__":
    main()

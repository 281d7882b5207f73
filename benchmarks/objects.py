"""What cells and classes cost a nucleus.

    python benchmarks/objects.py [--nuclei 1250 1000000] [--model threshold]

Slides of drawn tissue are run from Enter to exit, without and with `--cells 5`, each in a process
of its own. A classifier learns two classes from every hundredth nucleus, by its size, and then
classifies all of a result (`wsi-engine classify --classifier`), in a process of its own, too. It
is the difference of the runs, and that process, that grow with the nuclei.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from itertools import islice
from pathlib import Path

import numpy as np
from compare import Cost, cost_of_process
from million import draw

import wsi_engine
from wsi_engine.models.objects.file import write_classifier
from wsi_engine.qupath.objects import PathClass
from wsi_engine.results.finished import SlideResult

EVERY = 100
LEAST = 100
AREA = "Area µm^2"


def learn(result: Path, path: Path) -> None:
    """Write a classifier that learnt from some of the nuclei of a result."""
    count = len(SlideResult(result))
    some = list(
        islice(
            wsi_engine.iter_objects(result / "nuclei.geojson.gz"),
            0,
            None,
            max(1, min(EVERY, count // LEAST)),
        )
    )
    middle = np.median([item.measurements[AREA] for item in some])
    for item in some:
        item.classification = PathClass.of("large" if item.measurements[AREA] > middle else "small")
    examples = path.with_suffix(".geojson")
    wsi_engine.write_objects(examples, some)
    write_classifier(path, wsi_engine.train_classifier([(result, [examples])]).classifier)


def run(slide: Path, output: Path, model: str, *options: str) -> Cost:
    """Run a slide and return what it took."""
    command = [sys.executable, "-m", "wsi_engine", "run", str(slide), "-o", str(output)]
    return cost_of_process([*command, "--model", model, *options])


def print_row(what: str, count: int, cost: Cost, beyond_s: float = 0.0) -> None:
    """Print what a process took, and what each nucleus did of it."""
    each = (cost.cpu_s - beyond_s) / count * 1e6
    row = f"| {count:,} | {what} | {cost.wall_s:.1f} | {cost.cpu_s:.1f} | {each:,.0f} |"
    print(row, f"{cost.peak_mib:,.0f} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--nuclei", type=int, nargs="+", default=[1_250, 1_000_000])
    parser.add_argument("--model", default="threshold")
    arguments = parser.parse_args()
    print("| nuclei | | wall s | CPU s | µs of CPU per nucleus, beyond | peak MiB |")
    print("|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as scratch:
        for nuclei in arguments.nuclei:
            slide = draw(Path(scratch) / f"{nuclei}.tif", nuclei)
            plain = run(slide, Path(scratch) / "plain", arguments.model)
            cells = run(slide, Path(scratch) / "cells", arguments.model, "--cells", "5")
            result = Path(scratch) / "plain" / slide.stem
            count, classes = len(SlideResult(result)), Path(scratch) / "classes.json"
            learn(result, classes)
            command = [sys.executable, "-m", "wsi_engine", "classify", str(result)]
            classify = cost_of_process([*command, "--classifier", str(classes)])
            print_row("run", count, plain)
            print_row("run --cells 5", count, cells, plain.cpu_s)
            print_row("classify --classifier", count, classify)
            slide.unlink()


if __name__ == "__main__":
    main()

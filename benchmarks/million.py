"""What nuclei cost beside the network: merged, measured, and written in every form.

    python benchmarks/million.py [--nuclei 1000000] [--model threshold] [--parts 4]

Slides of drawn tissue with a part of so many nuclei, then with all, are run from Enter to exit,
each in a process of its own, with all that is on by default: measurements, context, GeoJSON,
GeoParquet, regions and the page. What reading, finding tissue, network and decoding took is taken
off the processor time of the process; the rest should grow with the nuclei, and memory should not.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import tempfile
from pathlib import Path

from compare import cost_of_process
from slides import drawn_tissue, write_repeated

MPP = 0.5
BEFORE_NUCLEI = ("tissue", "calibration", "read", "infer", "decode")


def draw(path: Path, nuclei: int) -> Path:
    """Write a slide with at least so many nuclei."""
    block = drawn_tissue(MPP)
    times = math.ceil(math.sqrt(nuclei / len(block.nuclei)))
    return write_repeated(path, block, times, MPP)


def row_of(slide: Path, output: Path, model: str) -> list[str]:
    """Run a slide and return what it took."""
    command = [sys.executable, "-m", "wsi_engine", "run", str(slide), "-o", str(output)]
    cost = cost_of_process([*command, "--model", model])
    record = json.loads((output / slide.stem / "run.json").read_text("utf-8"))
    cpu, stages = cost.cpu_s, record["stages"]
    before = sum(stages[stage]["cpu_s"] for stage in BEFORE_NUCLEI if stage in stages)
    count = record["nuclei"]["count"]
    return [
        f"{count:,}",
        f"{cost.wall_s:.0f}",
        f"{cpu:.0f}",
        f"{before:.0f}",
        f"{cpu - before:.0f}",
        f"{(cpu - before) / count * 1e6:.0f}",
        *(f"{stages[stage]['cpu_s']:.1f}" for stage in ("store", "seams", "measure", "write")),
        f"{cost.peak_mib:,.0f}",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--nuclei", type=int, default=1_000_000)
    parser.add_argument("--model", default="threshold")
    parser.add_argument("--parts", type=int, default=4, help="the smaller slide has one of so many")
    arguments = parser.parse_args()
    heads = ("nuclei", "wall s", "CPU s", "before nuclei", "nuclei CPU s", "µs per nucleus")
    heads += ("store", "seams", "measure", "write", "peak MiB")
    print("|", " | ".join(heads), "|")
    print("|" + "---|" * len(heads))
    with tempfile.TemporaryDirectory() as scratch:
        for nuclei in (arguments.nuclei // arguments.parts, arguments.nuclei):
            slide = draw(Path(scratch) / f"{nuclei}.tif", nuclei)
            row = row_of(slide, Path(scratch), arguments.model)
            print("|", " | ".join(row), "|", flush=True)
            slide.unlink()


if __name__ == "__main__":
    main()

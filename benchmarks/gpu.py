"""The whole engine on a GPU: how fast, how busy the network is, and whether it finds the same.

    python benchmarks/gpu.py SLIDE [--hovernet FILE] [--times 3] [--device auto] [--only-once]

The slide is run as it is, and laid side by side so many times in both directions; with the default
network, and with HoVer-Net where its weights are given. Every run is a process of its own. Nuclei
are compared with those that the processor finds on the slide as it is: F1 of the pair at
IoU >= 0.5. On a machine without a GPU `--device cpu` rehearses all of it.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from slides import write_repeated

from wsi_engine.evaluation.segmentations import polygon_overlaps
from wsi_engine.phantom import RepeatedBlock, make_nuclei
from wsi_engine.results.nucleus_table import read_nuclei
from wsi_engine.slide.frames import LevelBox
from wsi_engine.slide.opening import open_slide

HOVERNET = "hovernet_fast-pannuke"
SAME_AT = 0.5


def repeated(slide: Path, times: int, path: Path) -> Path:
    """Write a slide, so many times in both directions."""
    with open_slide(slide) as opened:
        info = opened.info
        pixels = opened.read(0, LevelBox(0, 0, info.width, info.height))
    assert info.mpp is not None, f"{slide} states no pixel size"
    unknown = make_nuclei(np.empty((0, 2)), info.mpp.x, np.random.default_rng(0))
    return write_repeated(path, RepeatedBlock(pixels, unknown, 1, 1), times, info.mpp)


def run(slide: Path, output: Path, device: str, method: list[str]) -> dict[str, Any]:
    """Run the engine on a slide; return its record."""
    command = [sys.executable, "-m", "wsi_engine", "run", str(slide), "-o", str(output)]
    subprocess.run([*command, "--device", device, *method], check=True, capture_output=True)
    record: dict[str, Any] = json.loads((output / slide.stem / "run.json").read_text("utf-8"))
    return record


def agreement(one: Path, other: Path) -> float:
    """Return the F1 of the nuclei of two results, each other's truth."""
    found = [read_nuclei(folder / "nuclei.parquet").polygons for folder in (one, other)]
    same = int((polygon_overlaps(*found).iou >= SAME_AT).sum())
    return 2 * same / max(1, sum(map(len, found)))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("slide", type=Path)
    parser.add_argument("--hovernet", type=Path, help=f"weights of {HOVERNET}")
    parser.add_argument("--times", type=int, default=3)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--only-once", action="store_true", help="leave the larger slide out")
    arguments = parser.parse_args()
    methods = {"starconvex": ["--model", "starconvex"]}
    if arguments.hovernet is not None:
        methods[HOVERNET] = ["--model", HOVERNET, "--weights", str(arguments.hovernet.resolve())]
    print(
        "| slide | method | device | mm² | s | s per mm² | Mpx per s | busy | nuclei | F1 to CPU |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as scratch:
        slides = [arguments.slide]
        if not arguments.only_once:
            larger = Path(scratch) / f"{arguments.times}x{arguments.times}.tif"
            slides.append(repeated(arguments.slide, arguments.times, larger))
        for name, method in methods.items():
            by_processor = Path(scratch) / f"{name} cpu"
            run(arguments.slide, by_processor, "cpu", method)
            for slide in slides:
                output = Path(scratch) / f"{name} {slide.stem}"
                record = run(slide, output, arguments.device, method)
                same = ""
                if slide == arguments.slide:
                    folders = (root / slide.stem for root in (by_processor, output))
                    same = f"{agreement(*folders):.4f}"
                print_row(slide, name, record, same)


def print_row(slide: Path, name: str, record: dict[str, Any], same: str) -> None:
    tiles, nuclei = record["tiles"], record["nuclei"]
    seconds, area = tiles["seconds"], nuclei["area_mm2"]
    cells = (
        slide.name, name, ", ".join(record["machine"]["devices"]), f"{area:.2f}", f"{seconds:.1f}",
        f"{seconds / area:.3f}", f"{tiles['megapixels'] / seconds:.2f}",
        f"{tiles['model_busy']:.0%}", f"{nuclei['count']:,}", same,
    )  # fmt: skip
    print("|", " | ".join(cells), "|", flush=True)


if __name__ == "__main__":
    main()

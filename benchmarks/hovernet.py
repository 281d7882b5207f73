"""HoVer-Net with the same weights: TIAToolbox, and this package, by turns.

    python benchmarks/hovernet.py SLIDE [--turns 1] [--side 1024]

The middle of a slide becomes a slide of its own, random weights are saved as a state dict, and
both find nuclei on the one with the other at their defaults: from Enter to exit, on the wall clock
and of all processors, and with the largest memory. Random weights find nothing sensible, so nuclei
are compared on drawn maps: of the nuclei that the default network finds there, as a HoVer-Net
would answer that has learnt them by heart, blurred, and with noise.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from compare import Cost, cost_of_process
from scipy import ndimage
from tiatoolbox.models.architecture.hovernet import HoVerNet

import wsi_engine
from wsi_engine.evaluation.segmentations import polygon_overlaps
from wsi_engine.models.hovernet_decoding import decode_maps, extremes_of_fields
from wsi_engine.nuclei.polygons import polygons_from_rings
from wsi_engine.nuclei.raster import draw_polygons
from wsi_engine.nuclei.tracing import trace_labels
from wsi_engine.slide.frames import LevelBox
from wsi_engine.slide.opening import open_slide
from wsi_engine.slide.pyramid import write_pyramid

MODEL = "hovernet_fast-pannuke"
TYPES = 6
MATCHING_IOU = 0.5

THEIRS = f"""
import sys
from tiatoolbox.models.engine.multi_task_segmentor import MultiTaskSegmentor
from tiatoolbox.wsicore.wsireader import WSIReader

if __name__ == "__main__":
    slide, mpp, weights, folder = sys.argv[1:]
    # What it reads of a plain TIFF says nothing of the size of its pixels.
    reader = WSIReader.open(slide, mpp=(float(mpp), float(mpp)))
    MultiTaskSegmentor(model={MODEL!r}, weights=weights).run(
        images=[reader], patch_mode=False, save_dir=folder
    )
"""


def cut_out(slide: Path, side: int, path: Path) -> float:
    """Write the middle of a slide as one of its own; return the size of its pixels in µm."""
    with open_slide(slide) as opened:
        info = opened.info
        corner = (info.width - side) // 2, (info.height - side) // 2
        pixels = opened.read(0, LevelBox(*corner, side, side))
    mpp = info.mpp.mean
    write_pyramid(path, pixels, mpp)
    return mpp


def draw_maps(slide: Path, side: int) -> np.ndarray:
    """Draw the maps of the nuclei on a slide, float32 (side, side, 4)."""
    found = wsi_engine.run(slide, measure=(), regions=False, report=False).nuclei.polygons
    labels = np.zeros((side, side), np.int32)
    draw_polygons(found, np.arange(1, len(found) + 1), labels)
    maps = np.zeros((side, side, 4), np.float32)
    for number, box in enumerate(ndimage.find_objects(labels), start=1):
        if box is None:
            continue
        inside = labels[box] == number
        for axis, channel in ((1, 1), (0, 2)):
            place = np.indices(inside.shape)[axis] - np.nonzero(inside)[axis].mean()
            most = np.abs(place[inside]).max()
            maps[box][..., channel][inside] = place[inside] / max(most, 1)
        maps[box][..., 0][inside] = 1
        maps[box][..., 3][inside] = 1 + number % (TYPES - 1)
    noise = np.random.default_rng(0).normal(0, 0.05, (side, side, 3))
    maps[..., :3] = ndimage.gaussian_filter(maps[..., :3], (0.7, 0.7, 0)) + noise
    maps[..., 0] = maps[..., 0].clip(0, 1)
    return maps


def compare_nuclei(maps: np.ndarray) -> str:
    """Decode the same maps as TIAToolbox does and as a run does; say how the nuclei agree."""
    nuclear = np.ascontiguousarray(maps[..., 0])
    labels = HoVerNet._proc_np_hv(nuclear[..., None], np.ascontiguousarray(maps[..., 1:3]))
    theirs = polygons_from_rings(*trace_labels(labels.astype(np.int32), nuclear, 0.5)[:2])
    # As a run does it: from fields of the slide, not from the image that is decoded.
    fields = [each for row in np.split(maps, 4) for each in np.split(row, 4, axis=1)]
    found = decode_maps(maps, extremes_of_fields(fields[::2]), TYPES - 1)
    ours = polygons_from_rings(found.xy, found.offsets)
    iou = polygon_overlaps(theirs, ours).iou
    matched = iou[iou > MATCHING_IOU]
    return (
        f"Nuclei on the same maps: TIAToolbox {len(theirs)}, this package {len(ours)}; "
        f"{len(matched)} pairs of IoU above {MATCHING_IOU}, of {matched.mean():.4f} in the mean."
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("slide", type=Path)
    parser.add_argument("--turns", type=int, default=1)
    parser.add_argument("--side", type=int, default=1024, help="pixels of the slide")
    arguments = parser.parse_args()
    costs: dict[str, list[Cost]] = {"TIAToolbox": [], "wsi-engine": []}
    loads = []
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        slide, weights, script = folder / "middle.tif", folder / "random.pth", folder / "theirs.py"
        mpp = cut_out(arguments.slide, arguments.side, slide)
        torch.manual_seed(0)
        torch.save(HoVerNet(num_types=TYPES, mode="fast").state_dict(), weights)
        script.write_text(THEIRS, encoding="utf-8")
        ours = ["-m", "wsi_engine", "run", slide, "--model", MODEL, "--weights", weights, "-o"]
        commands = {"TIAToolbox": [script, slide, mpp, weights], "wsi-engine": ours}
        for turn in range(arguments.turns):
            for name, command in commands.items():
                full = [sys.executable, *map(str, command), str(folder / f"{name} {turn}")]
                costs[name].append(cost_of_process(full))
                loads.append(os.getloadavg()[0])
                print(f"{name}: {costs[name][-1]}", file=sys.stderr, flush=True)
        nuclei = compare_nuclei(draw_maps(slide, arguments.side))
    print(
        f"{arguments.side} x {arguments.side} px of {arguments.slide.name} at {mpp:.4g} µm, "
        f"{MODEL}, {os.cpu_count()} cores, TIAToolbox {version('tiatoolbox')}, medians of "
        f"{arguments.turns}; load of the machine {min(loads):.1f} to {max(loads):.1f}\n"
    )
    print("| | TIAToolbox | wsi-engine | ratio |\n|---|---|---|---|")
    for figure in ("cpu_s", "wall_s", "peak_mib"):
        theirs, mine = (statistics.median(getattr(c, figure) for c in each)
                        for each in costs.values())  # fmt: skip
        print(f"| {figure} | {theirs:.1f} | {mine:.1f} | {mine / theirs:.2f} |")
    print(f"\n{nuclei}")


if __name__ == "__main__":
    main()

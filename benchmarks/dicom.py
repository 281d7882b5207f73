"""What DICOM objects cost: written, and read again by highdicom, for 1 to a million nuclei.

    python benchmarks/dicom.py OUT/<slide> [--copies 1 3 9]

The nuclei of a result are laid side by side, so many times across and down, over a DICOM slide of
that size, of which only the header is there: an export reads no pixels. Each export and each
reading is a process of its own, so that its memory is its own.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import shapely
from export import measured, multiplied
from pydicom import dcmread

from tests.support.dicom_slides import write_whole_slide
from wsi_engine.nuclei.identity import namespace_of, nucleus_ids
from wsi_engine.qupath.features import annotation_feature
from wsi_engine.qupath.writer import write_features
from wsi_engine.results.region import read_regions

READ = """
import json, sys, time
import highdicom
from wsi_engine.engine.provenance import peak_rss_mb
start = time.process_time()
found = highdicom.ann.annread(sys.argv[1])
count = sum(len(g.get_graphic_data("2D")) for g in found.AnnotationGroupSequence)
for group in found.AnnotationGroupSequence:
    group.get_measurements()
print(json.dumps({"busy": time.process_time() - start, "peak": peak_rss_mb(), "count": count}))
"""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("result", type=Path)
    parser.add_argument("--copies", type=int, nargs="+", default=[1, 3, 9])
    options = parser.parse_args()
    heads = ("nuclei", "slide px", "CPU s", "MB at the start", "MB at the peak", "MB written")
    heads += ("highdicom CPU s", "MB at the peak")
    print("|", " | ".join(heads), "|")
    print("|" + "---|" * len(heads))
    with tempfile.TemporaryDirectory() as scratch:
        first = single(multiplied(options.result, 1, Path(scratch) / "one"))
        print("|", " | ".join(row_of(options.result, first, 1)), "|", flush=True)
        for copies in options.copies:
            folder = multiplied(options.result, copies, Path(scratch) / str(copies))
            print("|", " | ".join(row_of(options.result, folder, copies)), "|", flush=True)


def single(folder: Path) -> Path:
    """Leave one nucleus in a result."""
    table = pq.read_table(folder / "nuclei.parquet")
    pq.write_table(table.slice(0, 1), folder / "nuclei.parquet")
    return folder


def row_of(original: Path, folder: Path, copies: int) -> list[str]:
    """Export a result, read it again, and return what both took."""
    write_tissue(original, folder, copies)
    bounds = write_slide(folder)
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        cost = measured(folder, "dicom", Path(scratch))
    if cost is None:
        sys.exit("the export failed")
    subprocess.run([sys.executable, "-c", "from wsi_engine.export.export import *; import sys; "
                    "export_result(sys.argv[1], 'dicom')", str(folder)], check=True)  # fmt: skip
    (written,) = (folder / "exports").glob("*_nuclei.dcm")
    done = subprocess.run([sys.executable, "-c", READ, str(written)], capture_output=True,
                          text=True, check=True)  # fmt: skip
    read = json.loads(done.stdout.splitlines()[-1])
    return [
        f"{read['count']:,}",
        f"{bounds['width']:,} x {bounds['height']:,}",
        f"{cost['busy']:.1f}",
        *[f"{cost[key]:,.0f}" for key in ("start", "peak")],
        f"{cost['mb']:,.1f}",
        f"{read['busy']:.1f}",
        f"{read['peak']:,.0f}",
    ]


def write_tissue(original: Path, folder: Path, copies: int) -> None:
    """Write the tissue of a result, as many times as large."""
    pieces = read_regions(original / "tissue.geojson", "tissue")
    ids = nucleus_ids(namespace_of("tissue", "copies"), np.arange(2.0 * len(pieces)).reshape(-1, 2))
    features = [
        annotation_feature(ids[k], shapely.transform(piece.geometry, lambda xy: xy * copies),
                           name=piece.name, classification="Tissue", locked=True)
        for k, piece in enumerate(pieces)
    ]  # fmt: skip
    write_features(folder / "tissue.geojson", features)


def write_slide(folder: Path) -> dict[str, int]:
    """Write the header of a DICOM slide as large as that of a result, which is said to be of it."""
    record = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    slide = record["slide"]
    mpp = slide["mpp"]["x"]
    file = write_whole_slide(folder / "slide", np.full((64, 64, 3), 255, np.uint8), mpp=mpp)
    image = dcmread(file)
    image.TotalPixelMatrixColumns = slide["width"] = slide["bounds"]["width"]
    image.TotalPixelMatrixRows = slide["height"] = slide["bounds"]["height"]
    image.save_as(file)
    record["slide_path"] = str(file)
    (folder / "run.json").write_text(json.dumps(record), encoding="utf-8")
    return slide["bounds"]


if __name__ == "__main__":
    main()

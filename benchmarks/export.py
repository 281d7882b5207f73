"""What exports cost: time, memory, bytes, on a result and on copies of it side by side.

    python benchmarks/export.py OUT/<slide> [--copies 5] [--to csv labels]

Each export is a process of its own, so that its memory is its own; its start is left out. Time of
the processor (of all threads) says more than time where the machine does much else. With copies
the slide is that many times as wide and as high, which shows what grows with it. Formats whose
package is not installed are left out.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import shapely
from rich.console import Console
from rich.table import Table

from wsi_engine.export.formats import FORMATS
from wsi_engine.nuclei.identity import namespace_of, nucleus_ids

ONE = """
import json, sys, time
from pathlib import Path
from wsi_engine.engine.provenance import peak_rss_mb
from wsi_engine.errors import ExportError
from wsi_engine.export.export import export_result
before, start, busy = peak_rss_mb(), time.perf_counter(), time.process_time()
try:
    files = export_result(*sys.argv[1:4])
except ExportError as error:
    sys.exit(f"{sys.argv[2]}: {error}")
parts = [part for file in files for part in [file, *file.rglob("*")] if part.is_file()]
print(json.dumps({
    "seconds": time.perf_counter() - start,
    "busy": time.process_time() - busy,
    "start": before,
    "peak": peak_rss_mb(),
    "mb": sum(part.stat().st_size for part in parts) / 1e6,
}))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("result", type=Path)
    parser.add_argument("--copies", type=int, default=1, help="along each side of the slide")
    parser.add_argument("--to", nargs="+", choices=FORMATS, default=list(FORMATS))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        result = options.result
        if options.copies > 1:
            result = multiplied(result, options.copies, Path(scratch) / "large")
        names = ("format", "s", "CPU s", "MB at start", "MB at the peak", "MB written")
        table = Table(*names, title=title(result))
        for name in options.to:
            if (cost := measured(result, name, Path(scratch))) is not None:
                table.add_row(name, f"{cost['seconds']:.1f}", f"{cost['busy']:.1f}",
                              *[f"{cost[key]:,.0f}" for key in ("start", "peak")],
                              f"{cost['mb']:,.1f}")  # fmt: skip
        Console(width=100).print(table)


def measured(result: Path, name: str, scratch: Path) -> dict[str, float] | None:
    with tempfile.TemporaryDirectory(dir=scratch) as folder:
        command = [sys.executable, "-W", "ignore", "-c", ONE, str(result), name, folder]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        print(done.stderr.strip().splitlines()[-1], file=sys.stderr)
        return None
    return json.loads(done.stdout.splitlines()[-1])


def title(result: Path) -> str:
    count = pq.ParquetFile(result / "nuclei.parquet").metadata.num_rows
    bounds = json.loads((result / "run.json").read_text(encoding="utf-8"))["slide"]["bounds"]
    return f"{count:,} nuclei on {bounds['width']:,} x {bounds['height']:,} px"


def multiplied(result: Path, copies: int, folder: Path) -> Path:
    """Write a result that has a slide's nuclei several times, side by side and below each other."""
    folder.mkdir()
    (folder / "columns.json").write_bytes((result / "columns.json").read_bytes())
    record = json.loads((result / "run.json").read_text(encoding="utf-8"))
    bounds = record["slide"]["bounds"]
    step = np.array([bounds["width"], bounds["height"]])
    bounds |= {"width": int(step[0]) * copies, "height": int(step[1]) * copies}
    (folder / "run.json").write_text(json.dumps(record), encoding="utf-8")
    nuclei = pq.read_table(result / "nuclei.parquet")
    polygons = shapely.from_wkb(nuclei["geometry"].to_numpy())
    anchors = np.column_stack([nuclei["x"].to_numpy(), nuclei["y"].to_numpy()])
    namespace = namespace_of(record["slide"]["fingerprint"], "copies")
    with pq.ParquetWriter(folder / "nuclei.parquet", nuclei.schema, compression="zstd") as writer:
        for row, column in np.ndindex(copies, copies):
            offset = step * (column, row)
            places = anchors + offset
            moved = shapely.transform(polygons, lambda xy, by=offset: xy + by)
            columns = {
                "id": pa.array(nucleus_ids(namespace, places)),
                "geometry": pa.array(shapely.to_wkb(moved), pa.binary()),
                "x": pa.array(places[:, 0]),
                "y": pa.array(places[:, 1]),
            }
            values = [columns.get(name, nuclei[name]) for name in nuclei.column_names]
            writer.write_table(pa.table(values, schema=nuclei.schema))
    return folder


if __name__ == "__main__":
    main()

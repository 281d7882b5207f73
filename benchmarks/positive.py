"""How long `wsi-engine classify --positive` takes for one nucleus and for a million.

    python benchmarks/positive.py results/slide [--nuclei 1000000]

The nuclei of a result that was measured with DAB are laid side by side until there are so many,
and are told to be negative, 1+, 2+ or 3+; then the scores of the slide are computed.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import shapely

from wsi_engine.engine.classify import classify
from wsi_engine.engine.provenance import peak_rss_mb
from wsi_engine.nuclei.identity import namespace_of, nucleus_ids
from wsi_engine.nuclei.labels import Labels
from wsi_engine.nuclei.nuclei import Nuclei
from wsi_engine.nuclei.positivity import Positivity
from wsi_engine.regions.measure import measure_regions
from wsi_engine.results.column_dictionary import read_dictionary
from wsi_engine.results.layout import COLUMNS, NUCLEI_TABLE, RECORD
from wsi_engine.results.nucleus_files import NucleusFiles
from wsi_engine.results.nucleus_table import GeoParquetReader

THRESHOLDS = "dab:0.2,0.4,0.6"
STEP_PX = 1000.0
"""Distance from copy to copy."""


def repeated(nuclei: Nuclei, count: int) -> Iterator[Nuclei]:
    """Yield so many nuclei, copies of some in a row."""
    for k in range(-(-count // len(nuclei))):
        shift = np.array([k * STEP_PX, 0.0])
        rows = np.arange(min(len(nuclei), count - k * len(nuclei)))
        some = nuclei.take(rows)
        yield replace(
            some,
            anchors=some.anchors + shift,
            polygons=shapely.transform(some.polygons, lambda xy, by=shift: xy + by),
        )


def write_result(source: Path, folder: Path, count: int) -> None:
    """Write a result of so many nuclei."""
    folder.mkdir()
    record = json.loads((source / RECORD).read_text("utf-8"))
    record["slide"]["bounds"]["width"] = 2**30
    record["settings"]["tissue"] = False
    (folder / RECORD).write_text(json.dumps(record))
    with GeoParquetReader(source / NUCLEI_TABLE) as table:
        columns, for_qupath = read_dictionary(source / COLUMNS, table.measurements)
        nuclei, facts = table.nuclei(next(table.groups())), table.facts
    namespace = namespace_of(source.name, "copies")
    with NucleusFiles(folder, (), columns, for_qupath, folder.name, facts, None) as files:
        for some in repeated(nuclei, count):
            labels = Labels.of_engine([(None, None)] * len(some))
            files.write(nucleus_ids(namespace, some.anchors), some, labels)


def measured(source: Path, count: int) -> None:
    """Tell which of so many nuclei are positive, and print a row of the table."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / f"copies_{count}"
        write_result(source, folder, count)
        before = peak_rss_mb() or 0.0
        wall, cpu = time.perf_counter(), time.process_time()
        found = classify(folder, None, Positivity.parse(THRESHOLDS))
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        peak, again = peak_rss_mb() or 0.0, time.process_time()
        measure_regions(folder)
        again = time.process_time() - again
    assert sum(found.counts.values()) == count
    row = count, wall, cpu, cpu / count * 1e6, before, peak, again
    print("| {:,} | {:.1f} | {:.1f} | {:,.0f} | {:,.0f} | {:,.0f} | {:.1f} |".format(*row))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("result", type=Path, help="OUT/<slide> of a run with --stains hdab")
    parser.add_argument("--nuclei", type=int, default=1_000_000)
    options = parser.parse_args()
    heads = ("nuclei", "classify s", "CPU s", "CPU µs per nucleus", "MB before", "peak MB")
    heads += ("regions CPU s",)
    print("|", " | ".join(heads), "|")
    print("|" + "---|" * len(heads))
    for count in (1, options.nuclei):
        run = multiprocessing.get_context("spawn").Process(
            target=measured, args=(options.result, count)
        )
        run.start()
        run.join()


if __name__ == "__main__":
    main()

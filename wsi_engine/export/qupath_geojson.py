"""The nuclei for QuPath once more, with other measurements or in other portions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from wsi_engine.corrections.record import read_corrections
from wsi_engine.errors import ResultError
from wsi_engine.export.formats import FORMATS
from wsi_engine.export.options import Options, Which
from wsi_engine.nuclei.labels import LABEL_COLUMNS, Labels
from wsi_engine.qupath.colours import Colour, ColourAlpha
from wsi_engine.qupath.features import SCORE_NAME, detection_features
from wsi_engine.qupath.objects import Feature, PathObject
from wsi_engine.qupath.writer import CHUNK, GeoJSONWriter
from wsi_engine.results.finished import SlideResult
from wsi_engine.results.layout import COLUMNS
from wsi_engine.results.nucleus_table import polygons_of
from wsi_engine.writing import atomic_path


def write(run: SlideResult, path: Path, options: Options) -> list[Path]:
    """Write detections as `run` does: the same objects with the same UUIDs.

    Beside the measurements that are asked for each has its score. What a person noted in QuPath
    comes from the corrections in the folder, and so do the colours of classes, or from the record.
    With ``split`` the files are numbered, and those of an earlier split that are left over go. A
    row group is in memory at a time.
    """
    names = chosen_measurements(run, options.measurements)
    most = options.split or max(1, len(run))
    count = -(-max(1, len(run)) // most)
    files = [_numbered(path, k) for k in range(1, count + 1)] if options.split else [path]
    with ExitStack() as stack:
        features = _features(run, names)
        for file in files:
            partial = stack.enter_context(atomic_path(file))
            with GeoJSONWriter(partial, name=file.name) as writer:
                _fill(writer, features, most)
    while options.split and (left_over := _numbered(path, count := count + 1)).exists():
        left_over.unlink()
    return files


def _numbered(path: Path, k: int) -> Path:
    endings = FORMATS["geojson"].suffixes
    length = max(len(ending) for ending in endings if path.name.lower().endswith(ending))
    return path.with_name(f"{path.name[:-length]}_{k:03d}{path.name[-length:]}")


def _fill(writer: GeoJSONWriter, features: Iterator[Feature], most: int) -> None:
    chunk: list[Feature] = []
    for _, feature in zip(range(most), features, strict=False):
        chunk.append(feature)
        if len(chunk) == CHUNK:
            writer.write(chunk)
            chunk = []
    writer.write(chunk)


def chosen_measurements(run: SlideResult, which: Which) -> list[str]:
    """Return the names of all measurements, of the essential ones, or of none.

    Raises
    ------
    ResultError
        When nothing says which are essential.
    """
    if which == "none":
        return []
    names = run.table.measurements
    if which == "all":
        return names
    columns = [run.described(name) for name in names]
    if not all(column.source for column in columns):
        raise ResultError(
            f"{run.folder / COLUMNS} does not say which measurements are essential: "
            "export all or none"
        )
    return [column.name for column in columns if column.essential]


def _features(run: SlideResult, names: Sequence[str]) -> Iterator[Feature]:
    corrections = read_corrections(run.folder)
    corrected: dict[str, PathObject] = {}
    colours: dict[str, Colour | ColourAlpha] = {**run.record.model.class_colours}
    if corrections is not None:
        colours |= corrections.colours()
        corrected = corrections.edited | corrections.added
    for group in run.table.groups():
        for start in range(0, len(group), CHUNK):
            some = group.slice(start, CHUNK)
            ids = some["id"].to_pylist()
            labels = _labels(some, [corrected.get(identity) for identity in ids])
            yield from detection_features(
                ids,
                polygons_of(some),
                some["class"].to_pylist(),
                {SCORE_NAME: some["score"].to_numpy()}
                | {name: some[name].to_numpy().astype(np.float32) for name in names},
                labels.name,
                labels.metadata(),
                colours,
                labels.colours,
                labels.locks,
            )


def _labels(group: pa.Table, corrected: Sequence[PathObject | None]) -> Labels:
    nothing: list[str | None] = [None] * len(group)
    texts: dict[str, Any] = {
        name: group[name].to_pylist() if name in group.column_names else nothing
        for name in LABEL_COLUMNS
    }
    return Labels(
        **texts,
        notes=[{} if item is None else item.metadata for item in corrected],
        colours=[None if item is None else item.colour for item in corrected],
        locks=[item is not None and item.is_locked for item in corrected],
    )

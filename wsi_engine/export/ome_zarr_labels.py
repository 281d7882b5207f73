"""A label image of all nuclei in OME-Zarr, with what is known of each label."""

from __future__ import annotations

import json
import logging
import math
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import shapely

from wsi_engine.corrections.record import read_corrections
from wsi_engine.errors import ExportError
from wsi_engine.export.bands import Bands, Rows
from wsi_engine.export.extras import extra
from wsi_engine.export.label_pyramid import Labels, Size, draw_rows, level_sizes
from wsi_engine.export.options import Options
from wsi_engine.qupath.colours import class_colour
from wsi_engine.results.finished import SlideResult
from wsi_engine.results.layout import NUCLEI_TABLE
from wsi_engine.version import __version__

log = logging.getLogger(__name__)

NAME = "nuclei"
CHUNK = 1024
MOST_DRAWN_AT_ONCE = 16
"""Chunks in a row that are drawn together, of 4 MiB each."""

MOST_DESCRIBED = 100_000
"""So many labels have colour, class and id in the metadata, which every viewer reads at the start:
some 15 MB. Of more of them `nuclei.parquet` tells."""

UNCLASSIFIED = (128, 128, 128)
"""Where others have colours, viewers do not show labels that have none."""

# The fastest that all readers of Zarr 2 have. Large blocks: the rows of a label repeat each other.
_BLOSC = {"cname": "zstd", "clevel": 1, "shuffle": 0, "blocksize": 1 << 20}

_AXES = [{"name": name, "type": "space", "unit": "micrometer"} for name in "yx"]


def write(run: SlideResult, path: Path, options: Options) -> list[Path]:
    """Write the labels that `label_pyramid` writes, as ``labels/nuclei`` of a Zarr hierarchy.

    Zarr 2, as more programs read it. Chunks without nuclei are left out. Some chunks, or one and
    the nuclei of its row, are in memory at a time, and a few row groups.

    Raises
    ------
    ExportError
        When numcodecs is not installed, or the folder is there already: it may hold more than was
        exported.
    """
    if path.exists():
        raise ExportError(f"{path} is there already: remove it, or give another name")
    codec = extra("numcodecs", "ome-zarr").Blosc(**_BLOSC)
    mpp = np.array([run.mpp.x, run.mpp.y])
    step = np.ones(2) if options.mpp is None else options.mpp / mpp
    sizes = level_sizes(run, step)
    bands = Bands(run.table)
    with tempfile.TemporaryDirectory(prefix=".export-", dir=path.parent) as scratch:
        root = Path(scratch, path.name)
        image = root / "labels" / NAME
        image.mkdir(parents=True)
        _write_group(root, {})
        _write_group(root / "labels", {"labels": [NAME]})
        _write_group(image, _attributes(run, mpp * step, len(sizes)))
        for level, size in enumerate(sizes):
            _write_level(image / str(level), bands, size, step * 2**level, codec)
        root.replace(path)
    return [path]


def _write_group(folder: Path, attributes: dict[str, Any]) -> None:
    _write_json(folder / ".zgroup", {"zarr_format": 2})
    _write_json(folder / ".zattrs", attributes)


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")


def _write_level(
    folder: Path, bands: Bands, size: Size, step: npt.NDArray[np.float64], codec: Any
) -> None:
    folder.mkdir()
    array = {
        "zarr_format": 2, "shape": size, "chunks": (CHUNK, CHUNK), "dtype": "<u4",
        "fill_value": 0, "order": "C", "filters": None, "dimension_separator": "/",
        "compressor": codec.get_config(),
    }  # fmt: skip
    _write_json(folder / ".zarray", array)
    for row, column, labels in _chunks(bands, size, step):
        (folder / str(row)).mkdir(exist_ok=True)
        (folder / str(row) / str(column)).write_bytes(codec.encode(labels))


def _chunks(
    bands: Bands, size: Size, step: npt.NDArray[np.float64]
) -> Iterator[tuple[int, int, Labels]]:
    """Yield row, column and labels of each chunk that has some.

    A row of few chunks is drawn as the nuclei come. A row of many is too large for that, but low as
    seen on the slide: there it is its nuclei that are held, and one chunk.
    """
    height, width = size
    columns = -(-width // CHUNK)
    across = columns if columns <= MOST_DRAWN_AT_ONCE else 1
    labels = np.zeros((CHUNK, across * CHUNK), np.uint32)
    for row, top in enumerate(range(0, height, CHUNK)):
        found = map(_Band.of, bands.at(top * step[1], (top + CHUNK) * step[1]))
        band = found if across == columns else list(found)
        for first in range(0, columns, across):
            left = first * CHUNK
            part = labels[: height - top, : width - left]
            for some in band:
                rows = some.between(left * step[0], (left + part.shape[1]) * step[0])
                draw_rows(rows, step, (left, top), part)
            for k, chunk in enumerate(np.split(labels, across, axis=1)):
                if chunk.any():
                    yield row, first + k, np.ascontiguousarray(chunk)
            labels[:] = 0


@dataclass(frozen=True, eq=False)
class _Band:
    """The nuclei that reach into a row of chunks, and how far they reach to the left and right."""

    rows: Rows
    left: npt.NDArray[np.float64]
    right: npt.NDArray[np.float64]

    @classmethod
    def of(cls, rows: Rows) -> _Band:
        left, _, right, _ = shapely.bounds(rows.polygons).T
        return cls(rows, left, right)

    def between(self, left: float, right: float) -> Rows:
        within = (self.left < right) & (self.right > left)
        return Rows(self.rows.polygons[within], self.rows.numbers[within])


def _attributes(run: SlideResult, um: npt.NDArray[np.float64], levels: int) -> dict[str, Any]:
    """Return the metadata of the label image; pixels of ``um``, x and y."""
    y_x = um[::-1]
    datasets = []
    for level in range(levels):
        # Places are centres of pixels: those of a coarser one lie between those of finer ones.
        shift = {"type": "translation", "translation": list(y_x * (2**level - 1) / 2)}
        scale = {"type": "scale", "scale": list(y_x * 2**level)}
        datasets.append({"path": str(level), "coordinateTransformations": [scale, shift]})
    multiscale = {
        "version": "0.4",
        "name": f"{run.name}: labels of nuclei",
        "axes": _AXES,
        "datasets": datasets,
        "coordinateTransformations": [_for_spatialdata()],
        "type": "nearest",
    }
    return {
        "multiscales": [multiscale],
        "image-label": {"version": "0.4", **_described(run), "source": {"image": "../../"}},
        "wsi_engine": {
            "version": __version__,
            "slide": run.record.slide.name,
            "fingerprint": run.record.slide.fingerprint,
            "labels": f"label k is row k - 1 of {NUCLEI_TABLE}",
        },
    }


def _for_spatialdata() -> dict[str, Any]:
    """Return a transformation that changes nothing, with the systems that spatialdata asks for."""
    axes = [{"name": name, "type": "space", "unit": "unit"} for name in "yx"]
    systems = {"input": {"name": "yx", "axes": axes}, "output": {"name": "global", "axes": axes}}
    return {"type": "scale", "scale": [1.0, 1.0], **systems}


def _described(run: SlideResult) -> dict[str, Any]:
    if len(run) > MOST_DESCRIBED:
        log.warning(
            "%s has %d nuclei, more than %d: their colours and classes are not in the metadata of "
            "the label image, but in %s",
            run.name, len(run), MOST_DESCRIBED, NUCLEI_TABLE,
        )  # fmt: skip
        return {}
    described = list(_properties(run))
    colours = _colours(run, {one["class"] for one in described if "class" in one})
    rgba = [
        {
            "label-value": one["label-value"],
            "rgba": [*colours.get(one.get("class", ""), UNCLASSIFIED)[:3], 255],
        }
        for one in described
    ]
    return {name: listed for name, listed in (("colors", rgba if colours else []),
                                              ("properties", described)) if listed}  # fmt: skip


def _properties(run: SlideResult) -> Iterator[dict[str, Any]]:
    label = 0
    for group in run.table.groups(["id", "class", "score"]):
        for row in group.to_pylist():
            label += 1
            known: dict[str, Any] = {"label-value": label, "id": row["id"]}
            if row["class"] is not None:
                known["class"] = row["class"]
            if row["score"] is not None and math.isfinite(row["score"]):
                known["score"] = round(row["score"], 4)
            yield known


def _colours(run: SlideResult, classes: set[str]) -> dict[str, tuple[int, ...]]:
    corrections = read_corrections(run.folder)
    known: dict[str, tuple[int, ...]] = {**run.record.model.class_colours}
    if corrections is not None:
        known |= dict(corrections.colours())
    return {name: known.get(name) or class_colour(name) for name in classes}

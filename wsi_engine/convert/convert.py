"""One file in, one file out."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from wsi_engine.convert.annotation_store import read_annotation_store, write_annotation_store
from wsi_engine.convert.cellvit import read_cellvit
from wsi_engine.convert.finishing import Finishing, Placement, namespace_of_file
from wsi_engine.convert.geoparquet import measurement_names, read_geoparquet, write_geoparquet
from wsi_engine.convert.hovernet import magnification, read_hovernet
from wsi_engine.convert.kinds import (
    DIALECTS,
    KINDS,
    OLD_DIALECTS,
    Kind,
    kind_of_source,
    kind_of_target,
)
from wsi_engine.convert.label_image import read_label_image
from wsi_engine.convert.old_dialect import old_feature
from wsi_engine.convert.types import Types, read_types
from wsi_engine.errors import ConversionError
from wsi_engine.nuclei.measure.shape import QUPATH_NAMES
from wsi_engine.qupath.objects import PathObject
from wsi_engine.qupath.problems import Problem
from wsi_engine.qupath.reader import iter_objects, iter_quietly
from wsi_engine.qupath.writer import GeoJSONWriter, write_objects
from wsi_engine.slide.opening import open_slide
from wsi_engine.writing import atomic_path, clear_write_errors

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Conversion:
    """The outcome of a conversion.

    Attributes
    ----------
    kind
        Kind of the file that was read.
    count
        Number of objects written.
    left_out
        Number of objects that had no area left.
    """

    kind: Kind
    count: int
    left_out: int


def convert(
    source: str | Path,
    target: str | Path,
    *,
    kind: Kind | None = None,
    dialect: str = "0.7",
    scale: float | None = None,
    origin: tuple[float, float] = (0.0, 0.0),
    shift_bounds: str | Path | None = None,
    as_is: bool = False,
    types: str | Path | None = None,
    mpp: float | None = None,
) -> Conversion:
    """Convert a file of objects, and write it whole or not at all.

    Parameters
    ----------
    source
        QuPath GeoJSON (plain, ``.gz``, ``.zip``), GeoParquet, CellViT's ``cells.json``,
        HoVer-Net's JSON, TIAToolbox's ``.db``, or a label image (PNG, TIFF, ``.npy``).
    target
        ``.geojson`` or ``.json`` (also ``.gz``), ``.zip``, ``.parquet`` or ``.db``.
    kind
        Kind of the source, where its content does not say.
    dialect
        Version of QuPath that is to read GeoJSON: one file serves 0.4 to 0.7, another 0.2
        and 0.3.
    scale
        Full-resolution pixels per pixel of the source.
    origin
        Place of the source's (0, 0), in full-resolution pixels (x, y).
    shift_bounds
        A slide in whose OpenSlide frame the source was written: its ``openslide.bounds-x/-y``
        is taken off, as QuPath does.
    as_is
        Take contours of CellViT and HoVer-Net as they are; else the pixels are outlined whose
        centres they join.
    types
        JSON with the classes of type numbers, see `types.read_types`.
    mpp
        Pixel size of the slide in µm: detections then get measurements of shape.

    Raises
    ------
    EngineError
        When the source cannot be read, or the target not be written.

    Examples
    --------
    >>> converted = convert("results/slide/nuclei.geojson.gz", "nuclei.parquet")
    >>> converted.kind, converted.count > 0
    ('qupath', True)
    """
    source, target = Path(source), Path(target)
    if dialect not in DIALECTS:
        raise ConversionError(f"dialect {dialect}: give one of {', '.join(DIALECTS)}")
    if kind is not None and kind not in KINDS:
        raise ConversionError(f"kind {kind}: give one of {', '.join(KINDS)}")
    if mpp is not None and not (math.isfinite(mpp) and mpp > 0):
        raise ConversionError(f"mpp {mpp:g}: give the pixel size in µm, a number above 0")
    target_kind = kind_of_target(target)
    namespace = namespace_of_file(source)
    kind = kind or kind_of_source(source)
    known = None if types is None else read_types(types)
    placement = _placement(source, kind, scale, origin, shift_bounds)

    problems: list[Problem] = []
    objects = Finishing(
        _read(source, kind, known, as_is, problems),
        placement,
        namespace,
        mpp,
        keep_shapes=kind == target_kind == "qupath" and placement.is_identity,
    )
    with clear_write_errors(target), atomic_path(target, keep_name=True) as partial:
        if target_kind == "geoparquet":
            # The columns must be known before the first row: the source is read twice.
            names = measurement_names(_read(source, kind, known, as_is, quietly=True))
            names += [name for name in QUPATH_NAMES if mpp is not None and name not in names]
            write_geoparquet(partial, objects, names)
        elif target_kind == "tiatoolbox":
            write_annotation_store(partial, objects)
        elif dialect in OLD_DIALECTS:
            _write_old(partial, objects)
        else:
            write_objects(partial, objects)
        if objects.left_out and not objects.count:
            raise ConversionError(
                f"{source.name}: none of its {objects.left_out:,} objects has an area, so nothing "
                "is written: is --scale right?"
            )
        unread = [problem for problem in problems if problem.skipped]
        if unread and not objects.count:
            raise ConversionError(
                f"none of the {len(unread):,} objects could be read, so nothing is written: "
                f"{unread[0]}"
            )
    if objects.divided:
        log.warning(
            "%s: %d objects have several parts that do not touch: each part is an object of its "
            "own, without what was measured of the whole",
            source.name,
            objects.divided,
        )
    if objects.left_out:
        log.warning("%s: %d objects without area were left out", source.name, objects.left_out)
    return Conversion(kind, objects.count, objects.left_out)


def _read(
    path: Path,
    kind: Kind,
    types: Types | None,
    as_is: bool,
    problems: list[Problem] | None = None,
    *,
    quietly: bool = False,
) -> Iterator[PathObject]:
    match kind:
        case "cellvit":
            return read_cellvit(path, types=types, pixel_centres=not as_is)
        case "hovernet":
            return read_hovernet(path, types=types, pixel_centres=not as_is)
        case "tiatoolbox":
            return read_annotation_store(path, types=types)
        case "geoparquet":
            return read_geoparquet(path, types=types)
        case "labels":
            return read_label_image(path)
        case "qupath":
            return iter_quietly(path) if quietly else iter_objects(path, problems=problems)


def _placement(
    source: Path,
    kind: Kind,
    scale: float | None,
    origin: tuple[float, float],
    shift_bounds: str | Path | None,
) -> Placement:
    if scale is not None and not (math.isfinite(scale) and scale > 0):
        raise ConversionError(f"scale {scale:g}: give a number above 0")
    if not all(math.isfinite(part) for part in origin):
        raise ConversionError("origin: give two numbers, x,y")
    if kind == "hovernet" and scale is None and (power := magnification(source)):
        log.warning(
            "%s was made at %gx and is taken for full resolution; if the slide has another "
            "objective, give --scale with its power divided by %g",
            source.name,
            power,
            power,
        )
    x, y = origin
    if shift_bounds is not None:
        with open_slide(shift_bounds) as slide:
            x, y = x - slide.info.bounds.x, y - slide.info.bounds.y
    return Placement(1.0 if scale is None else scale, (x, y))


def _write_old(path: Path, objects: Iterable[PathObject]) -> None:
    with GeoJSONWriter(path) as writer:
        for item in objects:
            writer.write([old_feature(part) for part in item.flattened()])

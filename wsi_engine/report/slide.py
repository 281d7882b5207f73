"""The page of one slide: `report.html`."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import shapely
from PIL import Image

from wsi_engine.errors import BusyError, EngineError
from wsi_engine.report.charts import distribution, histogram
from wsi_engine.report.examples import Card, choose_examples, make_cards
from wsi_engine.report.map_frame import MapFrame
from wsi_engine.report.maps import (
    FLAG_COLOURS,
    class_map,
    density,
    density_map,
    flag_key,
    tissue_map,
)
from wsi_engine.report.page import write_page
from wsi_engine.report.pictures import JPEG_QUALITY, FieldReader, jpeg
from wsi_engine.report.plausibility import (
    FLAGS_OF_NUCLEI,
    damage_flag,
    density_flag,
    nuclei_flag,
    pixel_size_flag,
)
from wsi_engine.report.tables import class_rows, facts_of_run, headline, region_rows
from wsi_engine.results.facts import ModelFacts
from wsi_engine.results.finished import SlideResult
from wsi_engine.results.folder import ResultFolder
from wsi_engine.results.layout import (
    QUALITY_FILE,
    QUALITY_GEOJSON,
    REPORT_FILE,
    THUMBNAIL_FILE,
)
from wsi_engine.results.quality_files import read_flags, write_flags
from wsi_engine.results.slide_at_hand import slide_at_hand
from wsi_engine.slide.dab import SPLIT_OFF
from wsi_engine.slide.protocol import Slide, SlideInfo
from wsi_engine.slide.quality import Flag, assess_slide, read_slide_overview
from wsi_engine.slide.quality.red_cells import red_cells_flag
from wsi_engine.slide.tissue import find_tissue
from wsi_engine.writing import clear_write_errors

log = logging.getLogger(__name__)

THUMBNAIL_PX = 240
SHOWN_AS_HISTOGRAM = ("Area µm^2", "Circularity", "Hematoxylin: Mean")
NO_SLIDE = (
    "The slide was not at hand when this page was made: there are no pictures of it, and what is "
    "said of its pixels was seen earlier, if at all. `wsi-engine report RESULT --slide PATH` makes "
    "the page again."
)
PIXELS_UNSEEN = Flag(
    "pixels", "not checked", None, "", "Blur, pen, folds and the amount of tissue are not known."
)


@dataclass(frozen=True)
class _Seen:
    """What a look at the slide gave; nothing where it is not at hand."""

    flags: list[Flag]
    tissue: shapely.Geometry | None
    photograph: bytes | None
    typical: list[Card]
    unusual: list[Card]


def write_report(folder: str | Path, slide: str | Path | None = None) -> Path:
    """Write the page of a finished slide.

    Parameters
    ----------
    folder
        ``OUT/<slide>``; gets ``report.html``, ``quality.json``, ``thumbnail.jpg`` and, where flags
        name places, ``quality.geojson`` for QuPath.
    slide
        Path of the slide, if it has moved since the run.

    Returns
    -------
    Path
        Path of ``report.html``, one file that needs no network and runs no script.

    Raises
    ------
    ResultError
        When the folder is no finished result, or the slide is not that of the result.
    SlideError
        When the slide that was named cannot be opened.
    OutputError
        When the page cannot be written.

    Notes
    -----
    Without the slide the page has no pictures and says so, as a warning does. What was said of the
    pixels of this run stays.

    Examples
    --------
    >>> import wsi_engine as we
    >>> we.write_report("results/slide", slide="slide.tif").name
    'report.html'
    """
    with ResultFolder.of_result(Path(folder)) as held:
        _write(held, Path(slide) if slide is not None else None)
        return held.path / REPORT_FILE


def _write(held: ResultFolder, slide: Path | None) -> None:
    result = SlideResult(held.path)
    with slide_at_hand(result, slide) as opened:
        seen = _look(result, opened)
    if seen.photograph is None:
        log.warning("%s: %s", result.name, NO_SLIDE)
    flags = [
        *seen.flags,
        nuclei_flag(result, seen.tissue),
        density_flag(result),
        damage_flag(result),
        pixel_size_flag(result),
    ]
    bounds = result.record.slide.bounds
    frame = MapFrame(bounds.width, bounds.height, result.mpp)
    searched, anchors = result.searched, result.anchors[result.on_slide]
    own_files = (REPORT_FILE, QUALITY_FILE, QUALITY_GEOJSON)
    with clear_write_errors(held.path), held.adding(*own_files) as growing:
        write_flags(result, flags, growing)
        _write_thumbnail(growing / THUMBNAIL_FILE, seen.photograph)
        write_page(
            growing / REPORT_FILE,
            "slide_page.html",
            name=result.name,
            headline=headline(result),
            overview=tissue_map(frame, searched, seen.photograph, flags),
            without_slide=None if seen.photograph else NO_SLIDE,
            density_map=density_map(frame, density(frame, anchors, searched), searched),
            class_map=(
                class_map(frame, anchors, result.labels[result.on_slide], result.classes, searched)
                if result.classes
                else None
            ),
            classes=class_rows(result),
            flags=flags,
            flag_keys={
                flag.name: flag_key(flag.name)
                for flag in flags
                if flag.where and flag.name in FLAG_COLOURS
            },
            histograms=list(_histograms(result)),
            typical=seen.typical,
            unusual=seen.unusual,
            regions=region_rows(result),
            facts=facts_of_run(result),
        )


def report_on(held: ResultFolder) -> None:
    """Write the page of a slide that was just finished; a problem is a warning, not an error.

    The result is published: a page that cannot be made must not take it back.
    """
    try:
        _write(held, None)
    except BusyError:
        raise
    except EngineError as error:
        log.warning("no %s: %s", REPORT_FILE, error)
    except Exception as error:
        log.warning("no %s: %s: %s", REPORT_FILE, type(error).__name__, error)
        log.debug("where it failed", exc_info=True)


def _look(result: SlideResult, slide: Slide | None) -> _Seen:
    typical, unusual = choose_examples(result)
    if slide is None:
        return _Seen(
            _earlier_flags(result),
            result.searched if result.record.settings.tissue else None,
            None,
            make_cards(result, typical, None),
            make_cards(result, unusual, None),
        )
    info = replace(slide.info, mpp=result.mpp)
    overview = read_slide_overview(slide, info)
    fields = FieldReader(slide, info)
    tissue = _tissue(result, slide, info)
    return _Seen(
        [
            *assess_slide(slide, info, tissue, overview, splits_dab=_splits_dab(result)),
            red_cells_flag(slide, info, result.anchors[result.on_slide]),
        ],
        tissue,
        jpeg(overview.rgb),
        make_cards(result, typical, fields),
        make_cards(result, unusual, fields),
    )


def _splits_dab(result: SlideResult) -> bool:
    model = result.record.model
    return isinstance(model, ModelFacts) and SPLIT_OFF in model.calibration


def _earlier_flags(result: SlideResult) -> list[Flag]:
    """Return what an earlier page of this run says of the pixels."""
    flags = [flag for flag in read_flags(result) or [] if flag.name not in FLAGS_OF_NUCLEI]
    return flags or [PIXELS_UNSEEN]


def _tissue(result: SlideResult, slide: Slide, info: SlideInfo) -> shapely.Geometry:
    """Return where the checks look: tissue, also where the run took all of the slide."""
    if result.record.settings.tissue:
        return result.searched
    return result.searched & shapely.union_all(find_tissue(slide, info).pieces)


def _histograms(result: SlideResult) -> Iterator[dict[str, object]]:
    for name in SHOWN_AS_HISTOGRAM:
        if name in result.measurements:
            values = np.asarray(result.column(name))
            what = distribution(name, result.unit(name), values)
            yield {"what": what, "picture": histogram(what, values)}


def _write_thumbnail(path: Path, photograph: bytes | None) -> None:
    """Write a small picture of the slide for the page of its cohort."""
    if photograph is None:
        return
    with Image.open(io.BytesIO(photograph)) as image:
        image.thumbnail((THUMBNAIL_PX, THUMBNAIL_PX))
        image.save(path, "jpeg", quality=JPEG_QUALITY)

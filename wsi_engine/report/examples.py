"""Which nuclei to show: the most typical and the most unusual of a slide."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import shapely
from markupsafe import Markup

from wsi_engine.report import svg
from wsi_engine.report.charts import number, readable
from wsi_engine.report.map_frame import scale_bar
from wsi_engine.report.pictures import FieldReader, data_uri, jpeg
from wsi_engine.results.finished import SlideResult

SHOWN = 12
COMPARED = (
    "Area µm^2", "Circularity", "Solidity", "Eccentricity", "Min diameter µm", "Max diameter µm",
    "Hematoxylin: Mean", "Hematoxylin: Std.Dev.", "Eosin: Mean", "DAB: Mean",
    "Hematoxylin: Gradient mean", "Chromatin: Dark fraction",
)  # fmt: skip
"""Shape, stain and texture of the nucleus itself; those that were measured are compared."""

TOLD = ("Area µm^2", "Circularity", "Hematoxylin: Mean")

FARTHEST = 8.0
"""Standard scores beyond this count as this: unusual is who differs in several ways, not who has
one absurd value."""
MOST_FOR_ONE_REASON = 3
OUTLINE = "#ffff00"
QUARTILE_OF_NORMAL = 0.6745


@dataclass(frozen=True)
class Example:
    """A nucleus to show.

    Attributes
    ----------
    row
        Row in the table of nuclei.
    stands_out
        The measurement that is farthest from the median, and its standard score.
    """

    row: int
    stands_out: tuple[str, float] | None = None


@dataclass(frozen=True)
class Card:
    """A nucleus as a page shows it.

    Attributes
    ----------
    id
        UUID, as in QuPath.
    picture
        Picture of its field with its outline; ``None`` without the slide.
    numbers
        Name and value of its most telling measurements.
    why
        What is unusual about it; ``None`` for a typical one.
    """

    id: str
    picture: Markup | None
    numbers: list[tuple[str, str]]
    why: str | None


def choose_examples(result: SlideResult) -> tuple[list[Example], list[Example]]:
    """Find the most typical and the most unusual nuclei.

    Each measurement is standardised by its median and by the quartile on the same side of it.
    Typical are those whose mean square score is smallest, unusual those where it is largest, not
    more than three for the same reason. One column is held at a time.

    Returns
    -------
    typical, unusual
        At most twelve nuclei each, none in both; no nuclei where nothing was measured.
    """
    count = len(result)
    names = [name for name in COMPARED if name in result.measurements]
    total, known = np.zeros(count, np.float32), np.zeros(count, np.int16)
    farthest, which = np.zeros(count, np.float32), np.zeros(count, np.int16)
    for k, name in enumerate(names):
        scores = _standard_scores(result.column(name))
        present = np.isfinite(scores)
        scores = np.where(present, scores, 0)
        total += np.minimum(np.abs(scores), FARTHEST) ** 2
        known += present
        farther = np.abs(scores) > np.abs(farthest)
        farthest[farther], which[farther] = scores[farther], k
    usable = np.flatnonzero(known >= max(1, (len(names) + 1) // 2))
    order = usable[np.argsort(total[usable] / known[usable], kind="stable")]
    typical = [Example(int(row)) for row in order[: min(SHOWN, len(order) // 2)]]
    unusual: list[Example] = []
    reasons: Counter[tuple[int, bool]] = Counter()
    for row in order[len(typical) :][::-1]:
        reason = (int(which[row]), bool(farthest[row] > 0))
        reasons[reason] += 1
        if len(unusual) < SHOWN and reasons[reason] <= MOST_FOR_ONE_REASON:
            unusual.append(Example(int(row), (names[which[row]], float(farthest[row]))))
    return typical, unusual


def _standard_scores(values: npt.NDArray[np.floating]) -> npt.NDArray[np.float32]:
    known = values[np.isfinite(values)]
    if len(known) == 0:
        return np.full(len(values), np.nan, np.float32)
    low, middle, high = np.percentile(known, [25, 50, 75])
    if low == high:
        return np.where(np.isfinite(values), 0, np.nan).astype(np.float32)
    # A measurement with one long tail is not unusual in its tail alone; one whose quartile meets
    # the median takes the other's.
    below, above = (middle - low) or (high - middle), (high - middle) or (middle - low)
    spread = np.where(values < middle, below, above) / QUARTILE_OF_NORMAL
    return ((values - middle) / spread).astype(np.float32)


def make_cards(
    result: SlideResult, examples: list[Example], fields: FieldReader | None
) -> list[Card]:
    """Read what is shown of nuclei, and their pixels where the slide is at hand."""
    told = [name for name in TOLD if name in result.measurements]
    rows = [example.row for example in examples]
    table = result.table.take(rows, ["id", "geometry", "x", "y", *told]).to_pylist()
    return [
        Card(
            id=nucleus["id"],
            picture=_picture(nucleus, fields) if fields is not None else None,
            numbers=[(_short(name, result), number(nucleus[name])) for name in told],
            why=_why(example),
        )
        for example, nucleus in zip(examples, table, strict=True)
    ]


def _picture(nucleus: dict[str, Any], fields: FieldReader) -> Markup:
    pixels, corner = fields.read(np.array([nucleus["x"], nucleus["y"]]))
    outline = shapely.transform(
        shapely.from_wkb(nucleus["geometry"]), lambda xy: fields.grid.from_qupath(xy) - corner
    )
    side = fields.side_px
    return svg.drawing(
        f"Nucleus {nucleus['id']} with its outline",
        side,
        side,
        svg.picture(data_uri(jpeg(pixels)), side, side),
        svg.shapes([outline], fill="none", stroke="#000", stroke_width=side / 70),
        svg.shapes([outline], fill="none", stroke=OUTLINE, stroke_width=side / 130),
        scale_bar(side, side, fields.grid.mpp, size=side / 11),
        class_="nucleus",
    )


def _short(name: str, result: SlideResult) -> str:
    """Name a measurement as briefly as a small card asks for."""
    unit = result.unit(name)
    short = name.removesuffix(": Mean").split(" µm")[0]
    return f"{short}, {readable(unit)}" if unit else short


def _why(example: Example) -> str | None:
    if example.stands_out is None:
        return None
    name, score = example.stands_out
    side = "above" if score > 0 else "below"
    return f"{readable(name)} {abs(score):.1f} σ {side} the median"

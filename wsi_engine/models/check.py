"""Telling the author of a model what is wrong with it, before it meets a slide."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import shapely

from wsi_engine.errors import ModelError
from wsi_engine.models.given import METHODS, require_model
from wsi_engine.models.promises import broken_by_maps, broken_by_predictions
from wsi_engine.models.protocol import Model, ModelSpec
from wsi_engine.models.registry import find_model
from wsi_engine.nuclei.polygons import polygons_from_rings
from wsi_engine.nuclei.predictions import Predictions
from wsi_engine.slide.protocol import RGB

CORE_PX = 192
"""Side of the part of a trial's windows in which nuclei must come out complete."""

MAPS_TOLERANCE = 0.01
"""Difference, as a share of the range of the maps, that rounding may make where a window begins
elsewhere."""

SAME_IOU = 0.98
SAME_SHARE = 0.98
"""A nucleus seen in two windows is the same from this IoU on, and so many must be."""

NUCLEAR_RGB = (92, 62, 128)
"""Colour of dark nuclei in H&E."""


def check_model(model: Model | str | Path) -> list[str]:
    """Try a model on drawn tissue and tell which promises it breaks.

    Looked at are the facts of its spec; shapes and types of maps and predictions, also of an
    empty batch, a blank tile and a tile full of nuclei; how far a changed pixel is seen, and
    whether maps move with the image by the stride; the size of objects; that neither the batch
    nor the tiling matters; that calibration is repeatable. It runs on the CPU and takes seconds
    for a compact network.

    Parameters
    ----------
    model
        An object that fulfils `Model`, the name of a registered model, or the path of a card.

    Returns
    -------
    list of str
        A sentence for each promise that is broken; empty where none is. What rests on a broken
        promise is not looked at.

    Raises
    ------
    ModelError
        When there is no model of that name, or its weights cannot be had.

    Examples
    --------
    >>> import wsi_engine as we
    >>> we.check_model("watershed")
    []
    """
    if isinstance(model, str | Path):
        model = find_model(str(model)).load(None)
    try:
        require_model(model)
    except ModelError as error:
        return [str(error)]
    trial = _Trial(model)
    for what in _FOUNDATIONS:
        if found := list(_findings(trial, what)):
            return found
    return [finding for what in _BEHAVIOUR for finding in _findings(trial, what)]


@dataclass
class _Trial:
    """A model on drawn tissue; what several steps need is computed once."""

    model: Model

    @property
    def spec(self) -> ModelSpec:
        return self.model.spec

    @property
    def shift(self) -> tuple[int, int]:
        """Shift between two windows as x, y; unequal, to tell axes apart."""
        stride = self.spec.stride
        return -(-48 // stride) * stride, -(-16 // stride) * stride

    @property
    def side(self) -> int:
        """Side of a window."""
        return 2 * self.spec.halo_px + -(-CORE_PX // self.spec.stride) * self.spec.stride

    @cached_property
    def field(self) -> RGB:
        """Tissue full of nuclei that holds both windows."""
        from wsi_engine.phantom import lay_out_tissue, render_tissue, scatter_nuclei

        rng = np.random.default_rng(7)
        shape = (self.side + self.shift[1], self.side + self.shift[0])
        tissue = lay_out_tissue(shape, self.spec.mpp, rng)
        nuclei = scatter_nuclei(tissue, rng)
        return _frozen(render_tissue(shape, nuclei, self.spec.mpp, rng, tissue))

    @cached_property
    def first(self) -> RGB:
        """One window of the field."""
        return self.field[: self.side, : self.side]

    @cached_property
    def second(self) -> RGB:
        """The window that is shifted."""
        x, y = self.shift
        return self.field[y : y + self.side, x : x + self.side]

    @cached_property
    def blank(self) -> RGB:
        return _frozen(np.full((self.side, self.side, 3), 255, np.uint8))

    @cached_property
    def giant(self) -> RGB:
        """The first window with a dark disc half as wide again as the largest object."""
        y, x = np.ogrid[: self.side, : self.side]
        centre = self.side / 2
        image = self.first.copy()
        radius = 0.75 * self.spec.largest_object_px
        image[(x + 0.5 - centre) ** 2 + (y + 0.5 - centre) ** 2 < radius**2] = NUCLEAR_RGB
        return _frozen(image)

    @cached_property
    def maps(self) -> npt.NDArray[Any]:
        """Maps of the first window."""
        return self.maps_of(self.first)

    @cached_property
    def found(self) -> Predictions:
        """Nuclei of the first window."""
        return self.model.decode(self.maps)

    @property
    def pixels_per_point(self) -> int:
        return int(self.side // self.maps.shape[0])

    def maps_of(self, *images: RGB) -> npt.NDArray[Any]:
        """Compute the maps of one image, or of a batch of several."""
        maps = self.model.maps(_frozen(np.stack(images)))
        return maps if len(images) > 1 else maps[0]


def _findings(trial: _Trial, what: str) -> Iterator[str]:
    name = trial.spec.name
    try:
        for finding in (_FOUNDATIONS | _BEHAVIOUR)[what](trial):
            yield f"model {name!r}: {finding}"
    # Whatever a model raises is what its author wants to know.
    except Exception as error:
        yield f"model {name!r}: {what} raised {type(error).__name__}: {error}"


def _check_spec(trial: _Trial) -> Iterator[str]:
    spec = trial.spec
    whole = ("stride", "receptive_radius_px", "largest_object_px", "bytes_per_px")
    if wrong := [name for name in whole if not isinstance(getattr(spec, name), int)]:
        yield f"{', '.join(wrong)}: give whole numbers of pixels"
        return
    if not spec.name or spec.name.split() != [spec.name]:
        yield f"name {spec.name!r}: give one word"
    if not (math.isfinite(spec.mpp) and 0.05 <= spec.mpp <= 20):
        yield f"mpp {spec.mpp}: give the side of a pixel in µm, 0.05 to 20"
    if spec.stride < 1:
        yield f"stride {spec.stride}: give a whole number from 1"
    if spec.receptive_radius_px < 0:
        yield f"receptive_radius_px {spec.receptive_radius_px}: give a whole number from 0"
    if spec.largest_object_px < 1:
        yield f"largest_object_px {spec.largest_object_px}: give a whole number from 1"
    if spec.bytes_per_px < 1:
        yield f"bytes_per_px {spec.bytes_per_px}: give a whole number from 1"
    if spec.reach_px is not None and 2 * spec.reach_px < spec.largest_object_px:
        yield f"reach_px {spec.reach_px} is less than half of largest_object_px"
    if not 0 < spec.max_overlap < 1:
        yield f"max_overlap {spec.max_overlap}: give a share between 0 and 1"
    if len(set(spec.classes)) < len(spec.classes) or not all(spec.classes):
        yield f"classes {', '.join(map(repr, spec.classes))}: give each a name of its own"


def _check_calibration(trial: _Trial) -> Iterator[str]:
    trial.model = model = trial.model.to("cpu")
    fields = _frozen(np.stack([trial.first[:CORE_PX, :CORE_PX], trial.first[-CORE_PX:, -CORE_PX:]]))
    before = _settings(model)
    calibrated = model.calibrate(fields)
    if missing := [name for name in METHODS if not hasattr(calibrated, name)]:
        returned = type(calibrated).__name__
        yield f"calibrate returned a {returned}, which lacks {', '.join(missing)}: return a model"
        return
    settings = _settings(calibrated)
    wrong = [name for name, value in settings.items() if not _is_number(value)]
    if wrong:
        yield f"settings hold {', '.join(map(repr, wrong))}, which are no finite numbers"
        return
    if _settings(model) != before:
        yield "calibrate changed the model: return another, for one model serves many slides"
    if _settings(model.calibrate(fields)) != settings:
        yield "calibrate found other settings on the same fields the second time"
    model.calibrate(_frozen(np.full_like(fields, 255)))
    trial.model = calibrated


def _check_maps(trial: _Trial) -> Iterator[str]:
    for what, images in (("a tile", [trial.first]), ("a blank tile", [trial.blank])):
        batch = _frozen(np.stack(images))
        maps = trial.model.maps(batch)
        if broken := broken_by_maps(maps, batch.shape, trial.spec):
            yield f"on {what}, {broken}"
        elif maps.dtype.kind == "f" and not np.isfinite(maps).all():
            yield f"maps of {what} hold NaN or infinity"


def _check_decoding(trial: _Trial) -> Iterator[str]:
    maps = trial.maps
    part = maps[: max(1, len(maps) // 2), : max(1, maps.shape[1] // 3)]
    cases = {
        "a tile full of nuclei": maps,
        "a part of a tile": part,
        "a blank tile": trial.maps_of(trial.blank),
        "a tile with one huge dark object": trial.maps_of(trial.giant),
    }
    for what, of_it in cases.items():
        found = trial.model.decode(_frozen(of_it))
        if broken := broken_by_predictions(found, trial.spec):
            yield f"on {what}, {broken}"
            return
        yield from _oversized(found, trial.spec, what)
    if len(trial.found) == 0:
        yield f"it finds nothing on a tile full of nuclei at {trial.spec.mpp:g} µm per pixel"


def _check_batches(trial: _Trial) -> Iterator[str]:
    empty = trial.model.maps(trial.first[None][:0])
    if empty.shape != (0, *trial.maps.shape):
        yield f"an empty batch has maps of shape {empty.shape}, not {(0, *trial.maps.shape)}"
    four = trial.maps_of(trial.blank, trial.first, trial.second, trial.first[::-1])
    if four[1].tobytes() != trial.maps.tobytes():
        yield "maps of a tile depend on what else is in its batch"
    again = trial.model.decode(trial.maps)
    if any(
        not np.array_equal(getattr(again, name), getattr(trial.found, name))
        for name in ("xy", "offsets", "anchors", "scores", "classes")
    ):
        yield "the same maps decoded twice give other nuclei"


def _check_receptive_radius(trial: _Trial) -> Iterator[str]:
    middle, k = trial.side // 2, trial.pixels_per_point
    seen = 0.0
    # At both ends of a cell of the stride, for a network may look further to one side.
    for at in {middle, middle + trial.spec.stride - 1}:
        for colour in (0, 255):
            image = trial.first.copy()
            image[at, at] = colour
            differs = trial.maps_of(image) != trial.maps
            y, x = np.nonzero(differs.reshape(*differs.shape[:2], -1).any(axis=2))
            if len(y):
                points = (np.stack([x, y]) + 0.5) * k
                seen = max(seen, float(np.abs(points - (at + 0.5)).max()))
    if seen > trial.spec.receptive_radius_px + k / 2:
        yield (
            f"a pixel changes maps {seen:.0f} px away, further than receptive_radius_px = "
            f"{trial.spec.receptive_radius_px}"
        )


def _check_stride(trial: _Trial) -> Iterator[str]:
    stride, k = trial.spec.stride, trial.pixels_per_point
    moved = trial.field[stride : stride + trial.side, stride : stride + trial.side]
    step, border = stride // k, -(-trial.spec.receptive_radius_px // k)
    inner = slice(border, trial.side // k - step - border)
    here = trial.maps[step:, step:][inner, inner].astype(np.float64)
    there = trial.maps_of(moved)[:-step, :-step][inner, inner].astype(np.float64)
    if np.abs(here - there).max(initial=0) > MAPS_TOLERANCE * np.ptp(trial.maps.astype(np.float64)):
        yield (
            f"maps do not move with the image by the stride of {stride} px: the true stride is a "
            "multiple of it, or something is estimated per tile"
        )


def _check_tiling(trial: _Trial) -> Iterator[str]:
    (x, y), halo = trial.shift, trial.spec.halo_px
    second = trial.model.decode(trial.maps_of(trial.second))
    low = np.array([x + halo, y + halo], np.float64)
    high = np.array([trial.side - halo, trial.side - halo], np.float64)
    shift = np.array([x, y], np.float64)
    here, there = _polygons(trial.found, 0 * shift), _polygons(second, shift)
    lost = total = 0
    # Two pixels within, for the anchor itself may move a little.
    for own, anchors, others in (
        (here, trial.found.anchors, there),
        (there, second.anchors + shift, here),
    ):
        inside = ((anchors >= low + 2) & (anchors < high - 2)).all(axis=1)
        total += int(inside.sum())
        lost += sum(not _has_equal(polygon, others) for polygon in own[inside])
    if lost > (1 - SAME_SHARE) * total:
        yield (
            f"{lost} of {total} nuclei are not the same in two windows that both hold them with a "
            f"halo of {halo} px: receptive_radius_px or largest_object_px is larger than stated, "
            "coordinates are not x, y from the window's corner, or something is estimated per tile"
        )


_Step = Callable[[_Trial], Iterator[str]]

_FOUNDATIONS: dict[str, _Step] = {
    "the spec": _check_spec,
    "to or calibrate": _check_calibration,
    "maps": _check_maps,
    "decode": _check_decoding,
}
"""Steps of which each rests on those before, by what they call."""

_BEHAVIOUR: dict[str, _Step] = {
    "maps of a batch": _check_batches,
    "maps of a changed image": _check_receptive_radius,
    "maps of a shifted image": _check_stride,
    "decode of a shifted image": _check_tiling,
}


def _oversized(found: Predictions, spec: ModelSpec, what: str) -> Iterator[str]:
    if len(found) == 0:
        return
    low = np.minimum.reduceat(found.xy, found.offsets[:-1])
    high = np.maximum.reduceat(found.xy, found.offsets[:-1])
    side = float((high - low).max())
    if side > spec.largest_object_px:
        yield f"on {what}, an object is {side:.0f} px wide, more than {spec.largest_object_px}"
    reach = spec.largest_object_px if spec.reach_px is None else spec.reach_px
    reached = float(np.maximum(found.anchors - low, high - found.anchors).max())
    if reached > reach:
        yield f"on {what}, an object reaches {reached:.0f} px from its anchor, more than {reach}"


def _polygons(found: Predictions, shift: npt.NDArray[np.float64]) -> npt.NDArray[np.object_]:
    return np.asarray(shapely.make_valid(polygons_from_rings(found.xy + shift, found.offsets)))


def _has_equal(polygon: shapely.Geometry, others: npt.NDArray[np.object_]) -> bool:
    common = shapely.area(shapely.intersection(polygon, others))
    union = shapely.area(polygon) + shapely.area(others) - common
    return bool((common >= SAME_IOU * union).any())


def _settings(model: Model) -> dict[str, float]:
    return dict(model.settings())


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def _frozen(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return a view that a model cannot write to: tiles are shared by threads."""
    view = values.view()
    view.flags.writeable = False
    return view

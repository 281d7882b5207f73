"""In which region of interest nuclei lie, as their tables and QuPath tell."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from wsi_engine.nuclei.labels import CORE_COLUMNS, LABEL_COLUMNS, Held, Texts
from wsi_engine.qupath.cores import places_of
from wsi_engine.qupath.objects import PathObject
from wsi_engine.qupath.regions import Regions


def held_by(regions: Regions | None, anchors: npt.NDArray[np.float64]) -> list[Held]:
    """Return the smallest region of interest that holds each nucleus.

    Parameters
    ----------
    regions
        Regions of interest, if there are any.
    anchors
        In QuPath pixels, shape (n, 2).
    """
    nowhere: Held = (None, None)
    if regions is None:
        return [nowhere] * len(anchors)
    names = [(region.name or region.class_name, region.id) for region in regions.wanted]
    return [names[k] if k >= 0 else nowhere for k in regions.holding(anchors)]


def label_columns(regions: Regions | None) -> tuple[str, ...]:
    """Return the names of the columns of labels of a table whose nuclei lie in some regions."""
    return (*LABEL_COLUMNS, *(CORE_COLUMNS if _cores(regions) else ()))


def cores_around(regions: Regions | None, anchors: npt.NDArray[np.float64]) -> dict[str, Texts]:
    """Return name, row and column of the core that holds each nucleus, whatever lies within it.

    Parameters
    ----------
    regions, anchors
        As for `held_by`.

    Returns
    -------
    dict of str to sequence of str or None
        The columns `CORE_COLUMNS`; empty where no region is a core.
    """
    cores = _cores(regions)
    if regions is None or not cores:
        return {}
    # Missing cores have names, too, which help to tell rows from columns.
    named = [*cores, *(item for item in regions.missing if item.object_type == "tmaCore")]
    places = places_of([item.name or "" for item in named], [item.geometry for item in named])
    known: list[tuple[str | None, ...]] = [
        (item.name, *place) for item, place in zip(cores, places[: len(cores)], strict=True)
    ]
    known.append((None, None, None))
    held = replace(regions, wanted=tuple(cores)).holding(anchors)
    rows = [known[k] for k in held.tolist()]
    return {name: [row[k] for row in rows] for k, name in enumerate(CORE_COLUMNS)}


def _cores(regions: Regions | None) -> list[PathObject]:
    wanted = () if regions is None else regions.wanted
    return [item for item in wanted if item.object_type == "tmaCore"]

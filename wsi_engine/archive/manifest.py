"""The manifest: a CSV that names slides, and says what is special about each."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

from wsi_engine.archive.inputs import ListedSlide
from wsi_engine.archive.names import is_url
from wsi_engine.config import make_settings
from wsi_engine.errors import EngineError, ManifestError
from wsi_engine.models.foreign.card import is_card
from wsi_engine.models.registry import find_model
from wsi_engine.study import read_study

PATH, NAME = "path", "slide"

SETTINGS = ("mpp", "roi", "model", "weights", "stains")
"""Columns that are settings for the slide of their row; see docs/archive.md."""


def read_manifest(path: Path) -> tuple[ListedSlide, ...]:
    """Read the slides of a manifest.

    ``path`` is the file, or a URL; paths are relative to the manifest. ``slide`` names the
    result; where there is no ``path``, it is the file. Columns of `SETTINGS` that are not empty
    are settings for that slide alone, and all other columns are facts.

    Raises
    ------
    ManifestError
        With the line, when a value is none of its kind, or a slide is there twice.
    """
    study = read_study(path)
    key = next((name for name in (PATH, NAME) if name in study.columns), None)
    if key is None:
        raise ManifestError(
            f"{path.name} has no column {PATH!r} or {NAME!r}; it has {', '.join(study.columns)}"
        )
    lines: dict[str, int] = {}
    slides = []
    for number, row in study.rows:
        slide = _listed(path, number, row, key)
        for shared in filter(None, (slide.path, slide.name)):
            first = lines.setdefault(shared, number)
            if first != number:
                raise ManifestError(
                    f"{path.name}: lines {first} and {number} are both {shared}: keep one of them"
                )
        slides.append(slide)
    if not slides:
        raise ManifestError(f"{path.name} names no slide")
    return tuple(slides)


def _listed(manifest: Path, number: int, row: dict[str, str | None], key: str) -> ListedSlide:
    where = f"{manifest.name}: line {number}"
    written = row[key]
    if written is None:
        raise ManifestError(f"{where} names no slide")
    if "\0" in written:
        raise ManifestError(f"{where}: {written!r} is no path")
    values = {name: row[name] for name in SETTINGS if row.get(name) is not None}
    try:
        overrides = _overrides(manifest.parent, values)
    except EngineError as error:
        raise ManifestError(f"{where}: {error}") from None
    used = {key, NAME, *SETTINGS}
    return ListedSlide(
        path=written if is_url(written) else os.path.realpath(manifest.parent / written),
        name=row.get(NAME) if key == PATH else None,
        overrides=overrides,
        facts={name: value for name, value in row.items() if name not in used and value},
    )


def _overrides(folder: Path, values: dict[str, str | None]) -> dict[str, Any]:
    given: dict[str, Any] = dict(values)
    for name in ("roi", "weights"):
        if name in given:
            given[name] = folder / given[name]
    if is_card(given.get("model", "")):
        given["model"] = str(folder / given["model"])
    if "mpp" in given:
        # Spreadsheets of half the world write a comma.
        given["mpp"] = given["mpp"].replace(",", ".")
    settings = make_settings(None, **given)
    if settings.mpp is not None and not (settings.mpp > 0 and math.isfinite(settings.mpp)):
        raise ManifestError(f"mpp = {settings.mpp}: give µm per pixel, such as 0.25")
    find_model(settings.model)
    return {name: getattr(settings, name) for name in given}

"""From a finished result to the file that another program wants."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from wsi_engine.errors import ExportError
from wsi_engine.export.formats import Format, find_formats, takers
from wsi_engine.export.options import HELP, Options, Which
from wsi_engine.results.finished import SlideResult
from wsi_engine.results.layout import COLUMNS, EXPORTS, NUCLEI_TABLE, RECORD, REGIONS_TABLE
from wsi_engine.writing import clear_write_errors

_OF_RESULT = frozenset({RECORD, NUCLEI_TABLE, COLUMNS, REGIONS_TABLE})
"""Files that are there even if ``run.json`` does not list them."""


def export_result(
    folder: str | Path,
    to: str | Sequence[str],
    path: str | Path | None = None,
    *,
    um: bool = False,
    measurements: Which = "all",
    split: int | None = None,
    mpp: float | None = None,
    labels: bool = False,
    slide: str | Path | None = None,
    mm: bool = False,
    options: Mapping[str, str] | None = None,
) -> list[Path]:
    """Write the nuclei of a finished slide in the formats of other programs.

    Corrections that were applied are in them. Row k of every table is the same nucleus, and
    k + 1 is its number in label images. Files appear whole or not at all and replace those of
    an earlier export; a folder (``.zarr``) that is there already is left alone.

    Parameters
    ----------
    folder
        ``OUT/<slide>``, as `run` or `measure` wrote it.
    to
        Name of a format, or several: those of ``wsi-engine export --help``, and of packages
        with entry points ``wsi_engine.exports``.
    path
        File to write, or folder for files named after the slide, which is what a name without
        suffix is; several formats need a folder. By default ``OUT/<slide>/exports``.
    um
        geoparquet: coordinates in µm in place of full-resolution pixels.
    measurements
        geojson, dicom: which measurements are written.
    split
        geojson: most nuclei per file; one file by default.
    mpp
        labels, ome-zarr: side of a pixel in µm; by default the slide's.
    labels
        spatialdata: write a label image, too.
    slide
        dicom: a DICOM file of the slide, if it has moved or was converted.
    mm
        dicom: coordinates in mm of the slide's frame of reference.
    options
        Options of formats of other packages, texts by name.

    Returns
    -------
    list of Path
        Paths of the files that were written.

    Raises
    ------
    ResultError
        When the folder holds no finished result.
    ExportError
        When there is no such format, an option or suffix is not of it, its package is missing,
        or a folder is in the way.
    OutputError
        When a file cannot be written.

    Examples
    --------
    >>> import wsi_engine as we
    >>> [path.name for path in we.export_result("results/slide", ["csv", "geoparquet"])]
    ['slide.csv', 'slide_columns.csv', 'slide.parquet']
    """
    names = list(dict.fromkeys([to] if isinstance(to, str) else to))
    chosen = Options(
        um=um,
        measurements=measurements,
        split=split,
        mpp=mpp,
        labels=labels,
        slide=None if slide is None else Path(slide),
        mm=mm,
        others=options or {},
    )
    formats = find_formats(names)
    _check(chosen, formats)
    run = SlideResult(Path(folder))
    with run.table:
        targets = _targets(run, formats, None if path is None else Path(path))
        _refuse_own_files(run, targets)
        files: list[Path] = []
        for kind, target in zip(formats.values(), targets, strict=True):
            with clear_write_errors(target):
                files += kind.write(run, target, chosen)
    return files


def _check(options: Options, formats: dict[str, Format]) -> None:
    if options.split is not None and options.split < 1:
        raise ExportError(f"split {options.split}: give a whole number from 1")
    if options.mpp is not None and not (math.isfinite(options.mpp) and options.mpp > 0):
        raise ExportError(f"mpp {options.mpp:g}: give the side of a pixel in µm, a number above 0")
    if own := sorted(set(options.others) & set(HELP)):
        raise ExportError(f"{own[0]} has an option of its own: give --{own[0]}")
    taken = frozenset[str]().union(*[kind.options for kind in formats.values()])
    for name in sorted(options.chosen() - taken):
        if name in HELP:
            raise ExportError(f"{name} is an option of {takers(name)}: leave it out")
        raise ExportError(f"{name} is no option of {', '.join(formats)}: leave it out")


def _targets(run: SlideResult, formats: dict[str, Format], path: Path | None) -> list[Path]:
    """Return where each format goes; folders that are needed are made."""
    (one, only), *others = formats.items()
    is_file = path is not None and path.suffix and (path.suffix == ".zarr" or not path.is_dir())
    if path is not None and is_file and not others:
        if not path.name.lower().endswith(only.suffixes):
            raise ExportError(f"{path.name}: {one} is written as {' or '.join(only.suffixes)}")
        return [path]
    folder = run.folder / EXPORTS if path is None else path
    with clear_write_errors(folder):
        folder.mkdir(exist_ok=True)
    return [folder / f"{run.name}{kind.tail}{kind.suffixes[0]}" for kind in formats.values()]


def _refuse_own_files(run: SlideResult, targets: Sequence[Path]) -> None:
    """Raise if an export would replace a part of the result that it reads."""
    own, names = run.folder.resolve(), _OF_RESULT | run.record.files.keys()
    # The same stem is as bad: numbers and other suffixes may come to it.
    stems = {name.partition(".")[0] for name in names}
    for target in targets:
        place = target.resolve()
        if place.parent == own and place.name.partition(".")[0] in stems:
            raise ExportError(
                f"{target} has the name of a file of the result: give another, or leave it out for "
                f"{run.folder / EXPORTS}"
            )

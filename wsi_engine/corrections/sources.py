"""Where objects come from: a GeoJSON file, the result of a slide, a folder of files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from wsi_engine.errors import GeoJSONError
from wsi_engine.qupath.objects import PathObject
from wsi_engine.qupath.problems import Problem
from wsi_engine.qupath.reader import iter_objects, iter_quietly
from wsi_engine.results.layout import NUCLEI_FILES, RECORD, ROI_FILE, TISSUE_FILE, files_called

SUFFIXES = (".geojson", ".json", ".geojson.gz", ".json.gz", ".zip")
RESULT_FILES = (NUCLEI_FILES, TISSUE_FILE, ROI_FILE)


def object_files(path: Path) -> list[Path]:
    """Return the GeoJSON files that a path means.

    Parameters
    ----------
    path
        A file; a result folder ``OUT/<slide>``, whose nuclei (in split files or not), tissue
        and regions are meant; or any other folder of GeoJSON files.

    Raises
    ------
    GeoJSONError
        When there is no such path, or no GeoJSON in the folder.
    """
    if not path.is_dir():
        if not path.exists():
            raise GeoJSONError(f"{path}: no such file")
        return [path]
    if (path / RECORD).exists():
        return [file for name in RESULT_FILES for file in files_called(path, name)]
    files = sorted(file for file in path.iterdir() if file.name.lower().endswith(SUFFIXES))
    if not files:
        raise GeoJSONError(f"{path}: there is no GeoJSON file in this folder")
    return files


def objects_of(
    path: Path, problems: list[Problem] | None = None, *, quietly: bool = False
) -> Iterator[PathObject]:
    """Stream the objects that a path means, nested ones after their parents.

    Problems of the files are logged, and added to the list as they are met; of a path that is
    read twice, ``quietly`` keeps them to one of the two passes.
    """
    for file in object_files(path):
        for item in iter_quietly(file) if quietly else iter_objects(file, problems=problems):
            yield from item.flattened()

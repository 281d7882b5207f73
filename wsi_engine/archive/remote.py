"""Slides on other file systems than this machine's, by way of fsspec."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from wsi_engine.errors import SlideError
from wsi_engine.slide.ome_zarr.reader import has_image
from wsi_engine.slide.readers import has_slide_suffix
from wsi_engine.slide.slide_files import INDEXED_SUFFIXES, named_in_index


def file_system(url: str) -> tuple[Any, str]:
    """Return the fsspec file system of a URL, and the path there.

    Raises
    ------
    SlideError
        When nothing here speaks the protocol, or the place does not answer.
    """
    from fsspec.core import url_to_fs

    try:
        system, path = url_to_fs(url)
    except ImportError as error:
        raise SlideError(f"{url}: {error}") from None
    # Every file system has errors of its own.
    except Exception as error:
        raise SlideError(f"{url} cannot be reached: {error}") from None
    return system, str(path)


@dataclass(frozen=True)
class RemoteFiles:
    """The files below a folder of a file system, as `Files` has them."""

    system: Any
    root: str

    def size(self, name: str) -> int | None:
        """Return the bytes of a file, ``None`` if there is none."""
        path = f"{self.root}/{name}"
        return int(self.system.size(path)) if self.system.isfile(path) else None

    def read(self, name: str, start: int, count: int) -> bytes:
        """Read a part of a file."""
        content: bytes = self.system.cat_file(f"{self.root}/{name}", start, start + count)
        return content

    def close(self) -> None:
        """Do nothing: nothing is held open."""


def is_slide_folder_there(system: Any, path: str) -> bool:
    """Tell whether a folder of a file system is a slide in OME-Zarr."""
    return has_image(RemoteFiles(system, path.rstrip("/")))


def files_of(system: Any, path: str) -> Iterator[tuple[str, PurePosixPath, int]]:
    """Yield the files that make up a slide: path there, path beside the slide, bytes.

    OME-Zarr is all files of a folder, those near its top first. MIRAX has a folder of the slide's
    name, Hamamatsu's VMS and VMU name the files that they consist of, a DICOM slide is the other
    files of its folder.
    """
    main = PurePosixPath(path)
    suffix = main.suffix.lower()
    # Some file systems fetch a whole file to see whether it is a folder.
    if not has_slide_suffix(main.name) and system.isdir(path):
        found = system.find(path, detail=True).items()
        for name, facts in sorted(found, key=lambda it: (it[0].count("/"), it[0])):
            beside = PurePosixPath(main.name) / PurePosixPath(name).relative_to(main)
            yield name, beside, int(facts["size"])
        return
    yield path, PurePosixPath(main.name), int(system.size(path))
    if suffix == ".mrxs":
        folder = main.with_suffix("")
        for name, facts in system.find(str(folder), detail=True).items():
            below = PurePosixPath(name).relative_to(folder)
            yield name, PurePosixPath(folder.name) / below, int(facts["size"])
    elif suffix == ".dcm" or suffix in INDEXED_SUFFIXES:
        others = {
            PurePosixPath(facts["name"]): facts
            for facts in system.ls(str(main.parent), detail=True)
        }
        wanted = named_in_index(system.cat_file(path)) if suffix in INDEXED_SUFFIXES else None
        for other, facts in others.items():
            is_part = other.name in wanted if wanted is not None else other.suffix == main.suffix
            if is_part and other.name != main.name and facts["type"] == "file":
                yield str(facts["name"]), PurePosixPath(other.name), int(facts["size"])

"""Slides on other file systems than this machine's, by way of fsspec."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Any

from wsi_engine.errors import SlideError
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


def files_of(system: Any, path: str) -> Iterator[tuple[str, PurePosixPath, int]]:
    """Yield the files that make up a slide: path there, path beside the slide, bytes.

    MIRAX has a folder of the slide's name, Hamamatsu's VMS and VMU name the files that they
    consist of, a DICOM slide is the other files of its folder.
    """
    main = PurePosixPath(path)
    suffix = main.suffix.lower()
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

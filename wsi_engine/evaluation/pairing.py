"""Files that belong together because they have the same name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from wsi_engine.errors import DatasetError

_GEOJSON = (".geojson", ".json", ".geojson.gz", ".json.gz")
_LABELS = (".png", ".tif", ".tiff", ".npy")


def is_segmentation(path: Path) -> bool:
    """Whether a file can hold a segmentation, by its name."""
    return path.name.lower().endswith(_GEOJSON + _LABELS)


def is_label_image(path: Path) -> bool:
    """Whether a file can hold a label image, by its name."""
    return path.name.lower().endswith(_LABELS)


def is_geojson(path: Path) -> bool:
    """Whether a file holds GeoJSON, by its name."""
    return path.name.lower().endswith(_GEOJSON)


def stem_of(path: Path) -> str:
    """Return the name of a file without what says its kind.

    Examples
    --------
    >>> stem_of(Path("case 1.v2.geojson.gz"))
    'case 1.v2'
    """
    for suffix in sorted(_GEOJSON, key=len, reverse=True):
        if path.name.lower().endswith(suffix):
            return path.name[: -len(suffix)]
    return path.stem


def files_by_stem(source: Path | Sequence[Path], usable: Callable[[Path], bool]) -> dict[str, Path]:
    """List the usable files of a folder, or some files, by their stems in order.

    Raises
    ------
    DatasetError
        If something does not exist, nothing is usable, or two files have the same stem.
    """
    if isinstance(source, Path):
        if not source.is_dir():
            raise DatasetError(f"the folder {source} does not exist")
        files = [path for path in sorted(source.iterdir()) if usable(path)]
        if not files:
            raise DatasetError(f"the folder {source} holds no files that could be used")
    else:
        files = list(source)
        missing = [path for path in files if not path.exists()]
        if missing:
            raise DatasetError(f"{missing[0]} does not exist")
    by_stem: dict[str, Path] = {}
    for path in files:
        other = by_stem.setdefault(stem_of(path), path)
        if other != path:
            raise DatasetError(f"{other} and {path} have the same name: one of them must go")
    return dict(sorted(by_stem.items()))


def paired(
    files: dict[str, Path], partners: dict[str, Path], *, where: Path, what: str
) -> list[tuple[Path, Path]]:
    """Pair files with the files of the same stem, in the order of the stems.

    Parameters
    ----------
    files, partners
        Files by stem, as `files_by_stem` returns them. Partners may be left over.
    where, what
        Folder of the partners, and what they are: for the message.

    Raises
    ------
    DatasetError
        If a file has no partner.
    """
    missing = sorted(set(files) - set(partners))
    if missing:
        raise DatasetError(
            f"{len(missing)} of {len(files)} files have no {what} of the same name in {where}, "
            f"the first is {missing[0]!r}: add it, or leave the file out"
        )
    return [(files[stem], partners[stem]) for stem in sorted(files)]

"""The DICOM images that an export refers to: headers of one series, read within bounds."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
import numpy.typing as npt

from wsi_engine.errors import ExportError
from wsi_engine.export.extras import extra
from wsi_engine.results.finished import SlideResult
from wsi_engine.slide.fingerprint import fingerprint
from wsi_engine.slide.slide_files import dicom_series

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

MOST_HEADER_BYTES = 32 << 20
"""A header holds texts and a colour profile; that of a file that is no slide may be endless."""

_PER_FRAME = 0x5200_9230
"""Positions of single frames, which nothing here needs, and behind them the pixels."""

_MAY_BE_EMPTY = (
    "PatientID",
    "PatientName",
    "PatientBirthDate",
    "PatientSex",
    "AccessionNumber",
    "StudyID",
    "StudyDate",
    "StudyTime",
)
"""Attributes of type 2: what lacks them is read as if they were empty."""

_PIXEL_TOLERANCE = 0.01


@dataclass(frozen=True)
class DicomSlide:
    """The levels of a slide in DICOM, and where the pixels of a result lie on the finest.

    Attributes
    ----------
    path
        File of the finest level.
    levels
        Headers of the levels, the finest first.
    offset
        QuPath's origin in pixels of the finest total pixel matrix, x and y.
    """

    path: Path
    levels: tuple[Dataset, ...]
    offset: tuple[int, int]

    @property
    def finest(self) -> Dataset:
        """Header of the finest level."""
        return self.levels[0]

    @cached_property
    def to_reference(self) -> npt.NDArray[np.float64]:
        """Matrix, shape (3, 3), from (column, row, 1) of the matrix's corners to mm on the slide.

        Raises
        ------
        ExportError
            When the header does not say where the slide lies in its frame of reference.
        """
        spatial = extra("highdicom.spatial", "dicom")
        try:
            known = spatial.ImageToReferenceTransformer.for_image(
                self.finest, for_total_pixel_matrix=True
            )
        except (AttributeError, IndexError, TypeError, ValueError) as error:
            raise ExportError(
                f"{self.path.name} does not say where its pixels lie on the slide ({error}): leave "
                "--mm out"
            ) from None
        return np.asarray(known.affine[:3, [0, 1, 3]], np.float64)


def dicom_slide_of(run: SlideResult, named: Path | None) -> DicomSlide:
    """Find the DICOM images of a result's slide.

    Parameters
    ----------
    run
        A finished result.
    named
        A file of the series, if the slide has moved, or is no DICOM file itself.

    Raises
    ------
    ExportError
        When there are none, they are of another slide, or cannot be read.
    """
    path = named or Path(run.record.slide_path)
    hint = "give --slide with a file of the DICOM series"
    if not path.is_file():
        raise ExportError(f"{path}: there is no such slide to refer to: {hint}")
    series = [(file, header) for file, header in dicom_series(path) if header.flavor == "VOLUME"]
    if not series:
        raise ExportError(
            f"{path.name} is no DICOM slide, which DICOM objects have to refer to: convert it (as "
            "wsidicomizer does), and give --slide with a file of that series"
        )
    finest, _ = series[0]
    _require_same_slide(run, finest)
    levels = tuple(read_header(file) for file, _ in series)
    return DicomSlide(finest, levels, _offset(run, finest, levels[0]))


def _require_same_slide(run: SlideResult, file: Path) -> None:
    facts = run.record.slide
    if facts.vendor == "dicom" and fingerprint(file) != facts.fingerprint:
        raise ExportError(
            f"{file.name} is not the slide of {run.folder}: give --slide with the one that was run"
        )


def _offset(run: SlideResult, file: Path, header: Dataset) -> tuple[int, int]:
    """Return QuPath's origin on the total pixel matrix, once the slides are seen to be alike."""
    facts, bounds = run.record.slide, run.record.slide.bounds
    size = (header.get("TotalPixelMatrixColumns"), header.get("TotalPixelMatrixRows"))
    mpp = _pixel_size(header)
    same_pixels = mpp is None or np.allclose(mpp, (run.mpp.x, run.mpp.y), rtol=_PIXEL_TOLERANCE)
    if same_pixels and size == (facts.width, facts.height):
        return bounds.x, bounds.y
    if same_pixels and size == (bounds.width, bounds.height):
        return 0, 0
    of_pixels = "" if mpp is None else f" of {mpp[0]:.4g} x {mpp[1]:.4g} µm"
    raise ExportError(
        f"{file.name} has {size[0]} x {size[1]} pixels{of_pixels}, the slide of the result "
        f"{facts.width} x {facts.height} of {run.mpp.x:.4g} x {run.mpp.y:.4g} µm: give --slide "
        "with the series that was made of it"
    )


def _pixel_size(header: Dataset) -> tuple[float, float] | None:
    """Return the pixel size in µm, x and y; ``None`` where the header has none."""
    try:
        measures = header.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
        down, across = measures.PixelSpacing
        return float(across) * 1000, float(down) * 1000
    except (AttributeError, IndexError, TypeError, ValueError):
        return None


def read_header(path: Path) -> Dataset:
    """Read the header of a whole slide image, up to what it says of single frames.

    Raises
    ------
    ExportError
        When it cannot be read, or is larger than any header.
    """
    reader = extra("pydicom.filereader", "dicom")
    try:
        with warnings.catch_warnings():
            # Of values against the standard, which are taken over as they are.
            warnings.simplefilter("ignore")
            return _read(reader.read_partial, path)
    except Exception as error:
        # A file from outside: pydicom has no base class for what damage makes it raise.
        reason = f"{error}".partition("\n")[0] or type(error).__name__
        raise ExportError(f"{path.name} cannot be read as DICOM: {reason}") from None


def _read(read_partial: Callable[..., Dataset], path: Path) -> Dataset:
    end: list[int] = []
    with path.open("rb") as stream:
        header = read_partial(_Bounded(stream), stop_when=partial(_is_beyond, end))
    if not end:
        raise ValueError("it ends within its header")
    for keyword in _MAY_BE_EMPTY:
        if keyword not in header:
            setattr(header, keyword, "")
    header.decode()  # values are decoded when they are first asked for, which is here
    return header


def _is_beyond(end: list[int], tag: int, vr: str | None, length: int) -> bool:
    """Whether the header ends before an element, whose tag is then noted."""
    del vr, length
    if tag >= _PER_FRAME:
        end.append(tag)
    return bool(end)


class _Bounded(io.RawIOBase):
    """A stream of which only so many bytes can be read."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._left = MOST_HEADER_BYTES

    def read(self, size: int = -1) -> bytes:
        if size < 0 or size > self._left:
            raise ValueError(f"its header is larger than {MOST_HEADER_BYTES >> 20} MiB")
        self._left -= size
        return self._stream.read(size)

    def seek(self, place: int, whence: int = 0) -> int:
        return self._stream.seek(place, whence)

    def tell(self) -> int:
        return self._stream.tell()

    def readinto(self, buffer: Any) -> int:
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

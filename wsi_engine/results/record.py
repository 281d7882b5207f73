"""The record of a result, ``run.json``: typed, with a format number, read and written here."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_serializer
from pydantic_core.core_schema import SerializerFunctionWrapHandler

from wsi_engine.errors import ResultError
from wsi_engine.results.layout import READY, RECORD, WORK

FORMAT = 1
"""Counted up when a record of before can no longer be read, or would be misread."""

Count = Annotated[int, Field(ge=0, lt=2**63)]
Pixels = Annotated[int, Field(gt=0, lt=2**31)]
Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]


class _Facts(BaseModel):
    """A part of a record; anybody may have written it, so types are not made to fit."""

    model_config = ConfigDict(frozen=True, strict=True, allow_inf_nan=False)


class Bounds(_Facts):
    """The part of level 0 that QuPath shows, in level-0 pixels."""

    x: int
    y: int
    width: Pixels
    height: Pixels


class PixelSize(_Facts):
    """Side of a full-resolution pixel in µm."""

    x: Positive
    y: Positive


class SlideFacts(_Facts):
    """The slide that nuclei lie on, with the pixel size that was used."""

    name: str
    fingerprint: str
    vendor: str
    width: Pixels
    height: Pixels
    bounds: Bounds
    mpp: PixelSize
    mpp_source: str
    objective_power: float | None


class Box(_Facts):
    """A rectangle in QuPath pixels, given by its corners."""

    x_min: float
    y_min: float
    x_max: float
    y_max: float


class TissueFacts(_Facts):
    """The tissue that a run found; ``None`` where it did not look for any."""

    pieces: Count | None
    area_mm2: NotNegative | None
    threshold_od: float | None


class NucleusCount(_Facts):
    """Number of nuclei."""

    count: Count


class FoundNuclei(NucleusCount):
    """The nuclei of a run, and the area that was searched for them."""

    area_mm2: NotNegative
    density_per_mm2: NotNegative


class MeasuredNuclei(NucleusCount):
    """The nuclei of another program, and how many of its objects are none."""

    left_out: Count


class AppliedFile(_Facts):
    """A corrected file that was taken in."""

    file: str
    sha256: str


class CorrectionFacts(_Facts):
    """The corrections in a result; ``file`` and ``sha256`` are those of their record."""

    file: str | None = None
    sha256: str | None = None
    deleted: Count
    edited: Count
    added: Count
    applied: tuple[AppliedFile, ...]
    time: str | None = None

    @model_serializer(mode="wrap")
    def _known(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {name: value for name, value in handler(self).items() if value is not None}


class NucleusSource(_Facts):
    """Who found the nuclei, and the names of their classes by index."""

    name: str
    classes: tuple[str, ...]


class ModelFacts(NucleusSource):
    """The model of a run; see `ModelSpec`."""

    summary: str
    mpp: Positive
    stride: int
    receptive_radius_px: int
    largest_object_px: int
    licence: str
    embedded: bool
    max_overlap: float
    reach_px: int | None
    calibration: dict[str, Any]


class StainFacts(_Facts):
    """Stain vectors by name, and the value of the background per channel."""

    name: str
    vectors: dict[str, tuple[float, ...]]
    background: tuple[float, ...]


class MeasurementFacts(_Facts):
    """The groups that were measured, and the stains they rest on."""

    groups: tuple[str, ...]
    stains: StainFacts


class SettingsFacts(_Facts):
    """The settings as they were given: those that are read again, and all the others."""

    model_config = ConfigDict(extra="allow")

    tissue: bool
    roi_class: tuple[str, ...]
    exclude_class: tuple[str, ...]
    split: Count | None
    report: bool


class TileFacts(_Facts):
    """The tiles of a run: how many, how large, how fast."""

    count: Count
    resumed: Count
    core_px: int
    halo_px: int
    read_level: int
    megapixels: NotNegative
    seconds: NotNegative
    model_busy: NotNegative


class WorkerFacts(_Facts):
    """A process that took part in a run."""

    devices: tuple[str, ...]
    tiles: Count
    peak_rss_mb: NotNegative | None


class StageFacts(_Facts):
    """Seconds that a stage took, on the wall clock and of processors."""

    wall_s: float
    cpu_s: float


class MachineFacts(_Facts):
    """The machine of a run, without its name."""

    platform: str
    devices: tuple[str, ...]


class FileFacts(_Facts):
    """A file as it was written."""

    bytes: Count
    sha256: str


class WrittenFiles(_Facts):
    """The record of files that were written together.

    Attributes
    ----------
    format
        Number of the format, `FORMAT`.
    files
        Every other file by its name.
    """

    format: int = FORMAT
    files: dict[str, FileFacts] = {}

    def with_files(self, files: Mapping[str, FileFacts]) -> Self:
        """Return the record of other files."""
        return self.model_copy(update={"files": dict(files)})

    def text(self) -> str:
        """Return the record as it is written."""
        return json.dumps(self.model_dump(mode="json"), indent=2, ensure_ascii=False)


class Record(WrittenFiles):
    """What every result tells.

    Attributes
    ----------
    slide, slide_path
        The slide, and where it was.
    unreadable
        What could not be read of it, in QuPath pixels.
    warnings
        Sentences for the user.
    nuclei
        How many there are.
    model
        Who found them.
    measurements, settings
        What was measured, and all settings.
    peak_rss_mb
        Largest memory of the process; ``None`` where the system does not tell.
    versions
        Of everything that took part, by package.
    started, finished
        UTC, ISO 8601.
    """

    slide: SlideFacts
    slide_path: str
    unreadable: tuple[Box, ...]
    warnings: tuple[str, ...]
    nuclei: NucleusCount
    model: NucleusSource
    measurements: MeasurementFacts
    settings: SettingsFacts
    peak_rss_mb: NotNegative | None
    versions: dict[str, str]
    started: str
    finished: str


class RunRecord(Record):
    """The record of a run.

    Attributes
    ----------
    tissue
        What was found of it.
    corrections
        That are in the result; ``None`` where nobody made any.
    basis
        Everything that the result rests on.
    tiles, workers, stages, machine
        How the run went.
    """

    nuclei: FoundNuclei
    model: ModelFacts
    tissue: TissueFacts
    corrections: CorrectionFacts | None
    basis: dict[str, Any]
    tiles: TileFacts
    workers: tuple[WorkerFacts, ...]
    stages: dict[str, StageFacts]
    machine: MachineFacts


class MeasureRecord(Record):
    """The record of nuclei that another program found and `measure` measured."""

    nuclei: MeasuredNuclei


Written = TypeVar("Written", bound=WrittenFiles)


def read_record(folder: Path) -> Record:
    """Read the record of a finished result: a `RunRecord`, or a `MeasureRecord`.

    Raises
    ------
    ResultError
        When the folder holds no finished result, or its record cannot be read, is damaged, or
        has another format.
    """
    if not folder.is_dir():
        raise ResultError(f"{folder}: no such folder; give one that `wsi-engine run` wrote")
    try:
        return load_record(folder / RECORD)
    except FileNotFoundError:
        if (folder / WORK / READY / RECORD).exists():
            what = "the files of its result are on their way: if nobody works there, give the "
            raise ResultError(f"{folder}: {what}command that wrote it once more") from None
        raise ResultError(
            f"{folder} holds no finished result (no {RECORD}): run the slide first"
        ) from None


def read_run_record(folder: Path) -> RunRecord:
    """Read the record of a finished run.

    Raises
    ------
    ResultError
        As `read_record` does, and when `measure` wrote it.
    """
    record = read_record(folder)
    if not isinstance(record, RunRecord):
        raise ResultError(
            f"{folder / RECORD} is not the record of a run (`wsi-engine measure` wrote it): run "
            "the slide again with --force"
        )
    return record


def load_record(path: Path) -> Record:
    """Read the file of a record.

    Raises
    ------
    FileNotFoundError
        When there is none.
    ResultError
        When it cannot be read, is damaged, or has another format.
    """
    values, raw = _load(path)
    # Only a run rests on a basis.
    return _parse(RunRecord if "basis" in values else MeasureRecord, raw, path)


def load_written_files(path: Path) -> WrittenFiles:
    """Read the record of files that are no result, such as those of a cohort.

    Raises
    ------
    FileNotFoundError
        When there is none.
    ResultError
        When it cannot be read, is damaged, or has another format.
    """
    _, raw = _load(path)
    return _parse(WrittenFiles, raw, path)


def _load(path: Path) -> tuple[dict[str, Any], bytes]:
    """Read a file of this format: its content as JSON, and as bytes."""
    try:
        raw = path.read_bytes()
        values = json.loads(raw)
    except FileNotFoundError:
        raise
    except (OSError, ValueError, RecursionError) as error:
        raise ResultError(
            f"{path} cannot be read ({error}): run the slide again with --force"
        ) from None
    number = values.get("format") if isinstance(values, dict) else None
    if type(number) is not int or number < FORMAT:
        raise ResultError(
            f"{path} is not the record of a run of this version (an earlier one wrote it"
            f"{'' if number is None else f', in format {number!s:.20}'}): run the slide again "
            "with --force"
        )
    if number > FORMAT:
        raise ResultError(
            f"{path} is not the record of a run of this version (a later one wrote it, in format "
            f"{number!s:.20}): update wsi-engine"
        )
    return values, raw


def _parse(kind: type[Written], raw: bytes, path: Path) -> Written:
    try:
        return kind.model_validate_json(raw)
    except ValidationError as error:
        lacks = ".".join(map(str, error.errors(include_input=False)[0]["loc"]))
        raise ResultError(
            f"{path} is not the record of a run (it does not tell {lacks or 'anything'}): run the "
            "slide again with --force"
        ) from None

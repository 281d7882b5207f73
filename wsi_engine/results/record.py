"""The record of a result, ``run.json``: typed, with a format number, read and written here."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self, TypeVar

from pydantic import ValidationError, model_serializer
from pydantic_core.core_schema import SerializerFunctionWrapHandler

from wsi_engine.errors import ResultError
from wsi_engine.results.facts import (
    Box,
    ClassifierFacts,
    CorrectionFacts,
    Facts,
    FileFacts,
    FileName,
    FoundNuclei,
    MachineFacts,
    MeasuredNuclei,
    MeasurementFacts,
    ModelFacts,
    NotNegative,
    NucleusCount,
    NucleusSource,
    PositivityFacts,
    SettingsFacts,
    SlideFacts,
    StageFacts,
    TileFacts,
    TissueFacts,
    WorkerFacts,
)
from wsi_engine.results.layout import READY, RECORD, WORK

FORMAT = 1
"""Counted up when a record of before can no longer be read, or would be misread."""


class WrittenFiles(Facts):
    """The record of files that were written together.

    Attributes
    ----------
    format
        Number of the format, `FORMAT`.
    files
        Every other file by its name.
    """

    format: int = FORMAT
    files: dict[FileName, FileFacts]

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
        Versions of everything that took part, by package.
    started, finished
        UTC, ISO 8601.
    classifier
        Who gave the nuclei their classes, if not who found them; the classes of ``model`` are
        then those of the classifier.
    positivity
        What made positive and negative nuclei of these classes; ``None`` for nothing.
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
    classifier: ClassifierFacts | None = None
    positivity: PositivityFacts | None = None

    @model_serializer(mode="wrap")
    def _known(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        told: dict[str, Any] = handler(self)
        for name in ("classifier", "positivity"):
            if told[name] is None:
                del told[name]
        return told


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


def side_of_pixels(record: Record) -> float:
    """Return the mean side of the pixels that nuclei were measured on, in µm."""
    measured = record.measurements.mpp or record.slide.mpp
    return (measured.x + measured.y) / 2


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
            f"{folder / RECORD} is not the record of a run (`wsi-engine measure` wrote it): give "
            "the folder of one"
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

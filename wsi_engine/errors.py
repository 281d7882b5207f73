"""Errors a user can act on: one sentence that says what is wrong, where, and what to do."""

from __future__ import annotations


def reason_for(error: Exception) -> str:
    """Say why a file cannot be read, without the number and the name that Python puts around it."""
    if isinstance(error, IsADirectoryError):
        return "it is a folder"
    return error.strerror if isinstance(error, OSError) and error.strerror else str(error)


class EngineError(Exception):
    """Base class of every error that the engine raises on purpose.

    The command line prints it as one red sentence and ends with ``exit_code``.

    Attributes
    ----------
    exit_code
        Exit code of the command line.

    Examples
    --------
    >>> import wsi_engine as we
    >>> try:
    ...     we.run("absent.svs")
    ... except we.EngineError as error:
    ...     print(error)
    absent.svs: no such file
    """

    exit_code = 1


class SlideError(EngineError):
    """The slide is missing, unreadable, or lacks something that the run needs."""


class SlideChangedError(SlideError):
    """The slide's file is not what it was when the run began."""


class ResolutionError(SlideError):
    """The slide's pixel size is missing, contradictory or absurd."""


class RegionError(EngineError):
    """The region of interest is empty, malformed, or lies outside the slide."""


class ModelError(EngineError):
    """The model is unknown, its weights do not fit, or its output is not usable."""


class MeasurementError(EngineError):
    """A group of measurements is unknown, clashes with another, or breaks its promise."""


class TileError(EngineError):
    """A tile could not be read, computed or decoded."""


class WorkerError(EngineError):
    """A worker process died, or would compute something else than the others."""


class BusyError(EngineError):
    """Another process works on the same slide, or took it over."""


class DeviceError(EngineError):
    """The device that was asked for is not there, or too small for a single tile."""


class SettingsError(EngineError):
    """A setting has a value that cannot work."""


class OutputError(EngineError):
    """A result cannot be written: no permission, no space, or not a folder."""


class GeoJSONError(EngineError):
    """A GeoJSON file cannot be read as QuPath objects."""


class CorrectionsError(EngineError):
    """A corrected file cannot be taken into a result without loss or doubt."""


class ResultError(EngineError):
    """A finished result is missing, incomplete, or does not fit to what is asked of it."""


class ManifestError(EngineError):
    """The table of slides of a study cannot be joined to the results."""


class ListenerError(EngineError):
    """Whoever is told how things go could not take it: a log that is full, or closed."""


class ClusterError(EngineError):
    """The machines that shall do slides cannot be reached, or lack something."""


class DatasetError(EngineError):
    """An annotated image cannot be used: unreadable, mismatched, or without nuclei."""


class TrainingError(EngineError):
    """Training cannot start or go on. Checkpoints on disk are never touched by it."""


class ConversionError(EngineError):
    """A file cannot be converted: its kind is unknown, or its content is not of that kind."""


class ExportError(EngineError):
    """A result cannot be exported as it is asked for."""

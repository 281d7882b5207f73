"""The parts of a record: the facts that ``run.json`` tells, by what they are about."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_serializer
from pydantic_core.core_schema import SerializerFunctionWrapHandler

from wsi_engine.nuclei.positivity import Positivity

MOST_BYTES_OF_NAME = 255

Count = Annotated[int, Field(ge=0, lt=2**63)]
Pixels = Annotated[int, Field(gt=0, lt=2**31)]
Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]


def _is_short(name: str) -> str:
    if "\0" in name or len(name.encode()) > MOST_BYTES_OF_NAME:
        raise ValueError("no name of a file")
    return name


FileName = Annotated[str, AfterValidator(_is_short)]
"""That a file system can be asked about, wherever it leads."""


class Facts(BaseModel):
    """A part of a record; anybody may have written it, so types are not made to fit."""

    model_config = ConfigDict(frozen=True, strict=True, allow_inf_nan=False)


class Bounds(Facts):
    """The part of level 0 that QuPath shows, in level-0 pixels."""

    x: int
    y: int
    width: Pixels
    height: Pixels


class PixelSize(Facts):
    """Side of a full-resolution pixel in µm."""

    x: Positive
    y: Positive


class SlideFacts(Facts):
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


class Box(Facts):
    """A rectangle in QuPath pixels, given by its corners."""

    x_min: float
    y_min: float
    x_max: float
    y_max: float


class TissueFacts(Facts):
    """The tissue that a run found; ``None`` where it did not look for any."""

    pieces: Count | None
    area_mm2: NotNegative | None
    threshold_od: float | None


class NucleusCount(Facts):
    """Number of nuclei."""

    count: Count


class FoundNuclei(NucleusCount):
    """The nuclei of a run, and the area that was searched for them."""

    area_mm2: NotNegative
    density_per_mm2: NotNegative


class MeasuredNuclei(NucleusCount):
    """The nuclei of another program, and how many of its objects are none."""

    left_out: Count


class AppliedFile(Facts):
    """A corrected file that was taken in."""

    file: str
    sha256: str


class CorrectionFacts(Facts):
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


class NucleusSource(Facts):
    """Who found the nuclei, and the names of their classes by index, with colours for QuPath."""

    name: str
    classes: tuple[str, ...]
    colours: tuple[tuple[int, int, int] | None, ...] = ()

    @property
    def class_colours(self) -> dict[str, tuple[int, int, int]]:
        """Colours of those classes that have one of their own."""
        pairs = zip(self.classes, self.colours, strict=False)
        return {name: colour for name, colour in pairs if colour is not None}


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
    bytes_per_px: int | None = None
    calibration: dict[str, Any]


class ClassifierFacts(Facts):
    """The object classifier that gave the classes, and what the model's were before it."""

    file: FileName
    sha256: str
    kind: str
    model_classes: tuple[str, ...]
    model_colours: tuple[tuple[int, int, int] | None, ...] = ()


class ThresholdFacts(Facts):
    """Thresholds that make positive and negative nuclei; see `Positivity`."""

    measurement: str
    thresholds: tuple[float, ...] = Field(min_length=1, max_length=3)

    @property
    def rule(self) -> Positivity:
        """What they say of a nucleus."""
        return Positivity(self.measurement, self.thresholds)


class PositivityFacts(ThresholdFacts):
    """The thresholds of a result.

    Attributes
    ----------
    earlier
        Those that it had before, the latest first.
    """

    earlier: tuple[ThresholdFacts, ...] = ()

    def after(self, before: PositivityFacts | None) -> PositivityFacts:
        """Return these thresholds as those that come after others."""
        if before is None:
            return self
        last = ThresholdFacts(measurement=before.measurement, thresholds=before.thresholds)
        earlier = [one for one in (last, *before.earlier) if one.rule != self.rule]
        return self.model_copy(update={"earlier": tuple(earlier)})

    @model_serializer(mode="wrap")
    def _known(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        told: dict[str, Any] = handler(self)
        if not self.earlier:
            del told["earlier"]
        return told


class StainFacts(Facts):
    """Stain vectors by name, and the value of the background per channel."""

    name: str
    vectors: dict[str, tuple[float, ...]]
    background: tuple[float, ...]


class MeasurementFacts(Facts):
    """The groups that were measured, the stains they rest on, and the size of the pixels."""

    groups: tuple[str, ...]
    stains: StainFacts
    mpp: PixelSize | None = None


class SettingsFacts(Facts):
    """The settings as they were given: those that are read again, and all the others."""

    model_config = ConfigDict(extra="allow")

    tissue: bool
    roi_class: tuple[str, ...]
    exclude_class: tuple[str, ...]
    split: Count | None
    report: bool
    cells: float | None = None


class GridFacts(Facts):
    """The pixels that the model saw: their size, and how many of the slide's make one.

    ``slide_pixels`` is ``None`` where the slide was resampled; ``reason`` says why.
    """

    mpp: PixelSize
    slide_pixels: tuple[int, int] | None
    reason: str


class TileFacts(Facts):
    """The tiles of a run: how many, how large, how fast."""

    count: Count
    resumed: Count
    core_px: int
    halo_px: int
    read_level: int
    grid: GridFacts | None = None
    megapixels: NotNegative
    seconds: NotNegative
    model_busy: NotNegative


class WorkerFacts(Facts):
    """A process that took part in a run."""

    devices: tuple[str, ...]
    tiles: Count
    peak_rss_mb: NotNegative | None


class StageFacts(Facts):
    """Seconds that a stage took, on the wall clock and of processors."""

    wall_s: float
    cpu_s: float


class MachineFacts(Facts):
    """The machine of a run, without its name."""

    platform: str
    devices: tuple[str, ...]


class FileFacts(Facts):
    """A file as it was written."""

    bytes: Count
    sha256: str

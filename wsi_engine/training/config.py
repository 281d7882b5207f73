"""What a training run is made of, as one checked document."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    SerializeAsAny,
    Tag,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from wsi_engine.errors import ModelError, SettingsError
from wsi_engine.models.learning import Learner
from wsi_engine.models.registry import available_models, find_training

Annotation = Literal["dense", "partial", "points"]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class SplitConfig(_Section):
    """Which images are held out. Groups are patients or slides, never tiles.

    Attributes
    ----------
    group
        Regular expression on the file stem; what it captures names the patient or slide.
        The whole stem where empty.
    validation
        Groups that are held out, by name.
    block
        For numbered images whose patients are unknown: neighbours in the listing are kept
        together in blocks of this many groups, and ...
    every
        ... every so-manieth block is held out.
    """

    group: str = "^(.*)$"
    validation: tuple[str, ...] = ()
    block: int = Field(default=1, ge=1)
    every: int | None = Field(default=None, ge=2)


class SetConfig(_Section):
    """What every set of annotated fields states, wherever its pixels come from.

    Attributes
    ----------
    weight
        Share of the crops that come from this set, relative to the other sets.
    inner_boundary_weight
        Trust in the boundary between two touching nuclei, 0 to 1.
    annotation
        ``dense``: what is not drawn is background. ``partial``: only some nuclei are drawn,
        all else is unknown. ``points``: every nucleus has a point; in label images a single
        pixel or a small disc.
    rename
        Map from the names of classes in the set's files to those that the run learns. ``null``:
        such nuclei count for their shape only.
    empty
        Whether the set is there for what it shows beside nuclei, and need not hold any. It
        then measures nothing: no field of it is held out.
    around_nuclei
        Share of the set's crops that show a nucleus; the others lie anywhere. For sets of which
        little is known beside their nuclei: crops that only say where none is would teach a
        network that there never is any.
    """

    name: str
    weight: float = Field(default=1.0, ge=0)
    inner_boundary_weight: float = Field(default=1.0, ge=0, le=1)
    annotation: Annotation = "dense"
    rename: dict[str, str | None] = {}
    empty: bool = False
    around_nuclei: float = Field(default=0.0, ge=0, le=1)
    split: SplitConfig = SplitConfig()


class DataConfig(SetConfig):
    """A set of images with labels.

    Attributes
    ----------
    images, labels
        Folders; files belong together by stem. Images are PNG, TIFF, JPEG or npy; labels are
        PNG, TIFF or npy, or QuPath's GeoJSON in the image's pixels.
    mpp
        Pixel size in µm that makes nuclei of this set as large as they are in life. It may
        differ from what the set states.
    classes
        Folder of images beside label images that say, pixel by pixel, the class of the
        nucleus there: 0 unknown, k the k-th of ``class_names``. GeoJSON states its classes
        itself.
    class_names
        Names of the numbers; the classes of the run, in their order, where not given.
    taught
        Folder of images beside the labels in which a teacher says how sure it is of a nucleus,
        of any size; see `wsi_engine.training.teaching`. Files are found by stem, and not every
        image needs one.
    """

    images: Path
    labels: Path
    taught: Path | None = None
    mpp: float = Field(gt=0.02, lt=10)
    classes: Path | None = None
    class_names: tuple[str, ...] = ()


class SlideDataConfig(SetConfig):
    """A set of fields that were annotated in QuPath on whole slides.

    See `wsi_engine.evaluation.drawings.Drawing.fields` for what is taken for a field. Pixels are
    read at 0.25 µm, or as they are where the slide is coarser.

    Attributes
    ----------
    slides
        A folder of slides, or a list of them.
    annotations
        Folder with one GeoJSON file per slide, of the same stem, as QuPath exports it.
    mpp
        Pixel size of the slides in µm, where the files state none or a wrong one.
    """

    slides: Path | tuple[Path, ...]
    annotations: Path
    mpp: float | None = Field(default=None, gt=0.02, lt=10)


class CorrectionsDataConfig(SetConfig):
    """A set of results that were corrected in QuPath and taken in by ``wsi-engine apply``.

    What of them counts as truth is said in `wsi_engine.training.corrected_area`. Groups of
    ``split`` are results, by the name of their folder. Without it a fifth is held out: of the
    slides where five or more have nuclei that count, else of blocks of 128 µm. Pixels are read
    at 0.25 µm, or as they are where the slide is coarser.

    Attributes
    ----------
    results
        Folders ``OUT/<slide>``, or ``OUT``; those without corrections are passed over.
    slides
        Folder of the slides, where they have moved since.
    """

    around_nuclei: float = Field(default=0.8, ge=0, le=1)
    results: tuple[Path, ...] = Field(min_length=1)
    slides: Path | None = None

    @field_validator("results", mode="before")
    @classmethod
    def _may_be_one(cls, value: object) -> object:
        return (value,) if isinstance(value, str | Path) else value


def _kind_of_set(entry: object) -> str:
    keys = entry if isinstance(entry, dict) else getattr(entry, "model_fields_set", ())
    if "results" in keys:
        return "corrections"
    return "slides" if "slides" in keys else "images"


AnySet = Annotated[
    Annotated[DataConfig, Tag("images")]
    | Annotated[SlideDataConfig, Tag("slides")]
    | Annotated[CorrectionsDataConfig, Tag("corrections")],
    Discriminator(_kind_of_set),
]


class AugmentConfig(_Section):
    """Strength of the augmentation. Every number is a range or the width of one.

    Attributes
    ----------
    scale
        Range of the size of things, log-uniform.
    elastic_um
        Standard deviation of the displacement of the elastic grid's nodes.
    hematoxylin, eosin
        Ranges of the factor on each stain's optical density, log-uniform.
    stain_vector
        Standard deviation of each component of the two stain vectors.
    white
        Range of how much of the set's own background density is taken off: 0 leaves the
        image as it was exposed, 1 makes the brightest tissue of the set white.
    brightness, contrast
        Standard deviations of an offset and of a log-factor on the intensity in [0, 1].
    blur_px, noise
        Largest Gaussian blur in model pixels, and largest noise in intensity.
    jpeg
        Lowest JPEG quality; the highest is 95.
    coarser
        Some crops are shown as if scanned at pixels up to so many times as large, so that a
        network of fine pixels knows slides that hold less than that.
    mosaic
        Whether a crop that is larger than its field, as where things are shown small, is
        drawn from four fields laid together.
    crowded
        Share of the crops in which copies of nuclei are put beside nuclei; see
        `wsi_engine.training.crowding`.
    negatives
        Share of the crops into which something is drawn that is no nucleus: red cells,
        pigment, ink, folds, mucin, keratin; see `wsi_engine.training.negatives`.
    """

    scale: tuple[float, float] = (0.6, 1.5)
    elastic_um: float = Field(default=0.7, ge=0)
    hematoxylin: tuple[float, float] = (0.4, 1.7)
    eosin: tuple[float, float] = (0.4, 1.8)
    stain_vector: float = Field(default=0.05, ge=0)
    white: tuple[float, float] = (0.0, 1.05)
    brightness: float = Field(default=0.05, ge=0)
    contrast: float = Field(default=0.12, ge=0)
    blur_px: float = Field(default=1.3, ge=0)
    noise: float = Field(default=0.04, ge=0)
    jpeg: int = Field(default=35, ge=1, le=95)
    coarser: float = Field(default=1.0, ge=1)
    mosaic: bool = False
    crowded: float = Field(default=0.0, ge=0, le=1)
    negatives: float = Field(default=0.0, ge=0, le=1)

    @field_validator("scale", "hematoxylin", "eosin")
    @classmethod
    def _is_a_positive_range(cls, value: tuple[float, float]) -> tuple[float, float]:
        if not 0 < value[0] <= value[1]:
            raise ValueError("must be a range of two positive numbers, the smaller one first")
        return value


class TrainConfig(_Section):
    """A training run from its data to its weights.

    Attributes
    ----------
    output
        Folder of checkpoints, log and weights.
    method
        Name of the method that learns, one of ``wsi-engine models``.
    network, learning
        Sections of the method's own: the shape of its network, and what it makes of labels; see
        `wsi_engine.models.starconvex.learning` and `wsi_engine.models.dense.learning`.
    init
        Weights to start from in place of random ones: the name of the method for those that
        come with the package, or a file. The network has their shape, and need not be stated.
    freeze_statistics
        Whether batch normalisation keeps the statistics that it starts with, so that few and
        peculiar crops cannot disturb them. For runs that start from weights.
    classes
        Classes of nuclei that the network learns, in this order; without any it learns shapes.
    class_balance
        Share of the crops that are drawn around a nucleus of a class, each class as often as
        any other however rare it is. The other crops lie anywhere.
    crop_px
        Side of a training crop in model pixels, a multiple of the network's stride.
    decay_steps
        The learning rate stays constant until this many steps before the end, then follows
        half a cosine down to a hundredth. So a run can be made longer, or ended early, from
        any checkpoint before its decay.
    threads
        Threads of the network on the CPU. One leaves a core to the crops, and is not held
        up where the machine is shared: threads that wait for each other spin.
    """

    output: Path
    method: str = "starconvex"
    init: str | None = None
    freeze_statistics: bool = False
    data: tuple[AnySet, ...] = Field(min_length=1)
    classes: tuple[str, ...] = ()
    class_balance: float = Field(default=0.0, ge=0, le=1)
    network: SerializeAsAny[BaseModel] = Field(default_factory=dict, validate_default=True)
    learning: SerializeAsAny[BaseModel] = Field(default_factory=dict, validate_default=True)
    augment: AugmentConfig = AugmentConfig()
    seed: int = 1
    steps: int = Field(default=10_000, ge=1)
    batch: int = Field(default=16, ge=1)
    crop_px: int = Field(default=192, ge=16)
    learning_rate: float = Field(default=1.5e-3, gt=0)
    decay_steps: int = Field(default=3000, ge=0)
    warmup_steps: int = Field(default=300, ge=1)
    weight_decay: float = Field(default=1e-4, ge=0)
    ema: float = Field(default=0.999, ge=0, lt=1)
    precision: Literal["fp32", "bf16"] = "bf16"
    device: str = "cpu"
    threads: int | None = Field(default=None, ge=1)
    log_every: int = Field(default=50, ge=1)
    validate_every: int = Field(default=500, ge=1)
    checkpoint_every: int = Field(default=200, ge=1)

    @field_validator("classes")
    @classmethod
    def _are_names_given_once(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not all(name.strip() for name in value) or len(set(value)) < len(value):
            raise ValueError("must be names, each given once")
        return value

    @field_validator("method")
    @classmethod
    def _is_a_method_that_learns(cls, value: str) -> str:
        try:
            find_training(value)
        except ModelError as error:
            raise ValueError(str(error)) from error
        return value

    @field_validator("network", "learning", mode="before")
    @classmethod
    def _is_as_the_method_wants(cls, value: object, info: ValidationInfo) -> object:
        if "method" not in info.data or info.field_name is None:
            return _Section()  # the method is none, which is said
        section: type[BaseModel] = getattr(find_training(info.data["method"]), info.field_name)
        return section.model_validate(value)

    @property
    def learner(self) -> Learner:
        """The method, ready to learn what this run is about."""
        return find_training(self.method).learner(self.network, self.learning, self.classes)

    @model_validator(mode="after")
    def _suits_the_method(self) -> Self:
        learner = self.learner
        if self.crop_px % learner.stride_px:
            raise ValueError(
                f"crop_px must be a multiple of {learner.stride_px}, the network's total stride"
            )
        if self.classes and not learner.classifies:
            raise ValueError(f"{self.method} tells no classes apart: leave classes out")
        taught = next((s.name for s in self.data if getattr(s, "taught", None) is not None), None)
        if taught is not None and not learner.teachable:
            raise ValueError(f"{self.method} learns from no teacher: leave taught out of {taught}")
        if self.init != self.method and self.init in available_models():
            raise ValueError(
                f"init has the weights of another method: state method: {self.init}, or init: "
                f"{self.method}"
            )
        if self.freeze_statistics and self.init is None:
            raise ValueError("freeze_statistics is for runs that start from weights: state init")
        return self

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a YAML file.

        Relative paths in it are relative to the working directory.

        Raises
        ------
        SettingsError
            If the file is missing, no YAML, or a setting is unknown or out of range.
        """
        return cls.from_document(read_document(path), path)

    @classmethod
    def from_document(cls, document: object, path: Path) -> Self:
        """Check the content of a YAML file.

        Raises
        ------
        SettingsError
            If a setting is unknown or out of range.
        """
        try:
            return cls.model_validate(document)
        except ValidationError as error:
            first = error.errors()[0]
            if first["type"] == "model_type" and not first["loc"]:
                raise SettingsError(f"{path} must hold settings as `name: value` lines") from None
            where = [".".join(map(str, first["loc"]))] if first["loc"] else []
            raise SettingsError(": ".join([str(path), *where, first["msg"]])) from error


def read_document(path: Path) -> object:
    """Read a YAML file as it is.

    Raises
    ------
    SettingsError
        If the file is missing or no YAML.
    """
    try:
        return yaml.safe_load(path.read_text())
    except OSError as error:
        raise SettingsError(f"the configuration {path} cannot be read: {error.strerror}") from error
    except yaml.YAMLError as error:
        raise SettingsError(f"{path} is not YAML: {error}") from error

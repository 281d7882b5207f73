"""Every setting of a run, once: its default, its unit, its check."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PositiveInt,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from wsi_engine.errors import SettingsError
from wsi_engine.nuclei.measure.columns import GROUP_NAMES
from wsi_engine.nuclei.positivity import PositiveSetting
from wsi_engine.slide.normalisation.methods import Method, SplitDab
from wsi_engine.slide.stain_vectors import StainSetting

LARGEST_TILE_PX = 65_536
ENSEMBLE = "ensemble"
"""Name of the model whose methods vote."""


@dataclass(frozen=True, slots=True)
class Setting:
    """What a field of `RunSettings` says of itself, beside its type and its default.

    Attributes
    ----------
    help
        What it sets; a phrase.
    changes_result
        Whether another value gives other nuclei, measurements or files of them. Such settings
        belong to the basis of a result; the others change how fast it comes, and what is made
        of it.
    unit
        Unit of its numbers.
    """

    help: str
    changes_result: bool
    unit: str = ""


def setting_of(field: FieldInfo) -> Setting:
    """Return what a field of `RunSettings` says of itself."""
    (setting,) = (marker for marker in field.metadata if isinstance(marker, Setting))
    return setting


def _of_hexadecimal(value: Any) -> Any:
    """Take ``#c80000`` for three numbers."""
    if not isinstance(value, str):
        return value
    if re.fullmatch("#[0-9a-fA-F]{6}", value) is None:
        raise ValueError("give a colour as #c80000, or as three numbers of 0 to 255")
    return tuple(bytes.fromhex(value[1:]))


Channel = Annotated[int, Field(ge=0, le=255)]
Colour = Annotated[tuple[Channel, Channel, Channel], BeforeValidator(_of_hexadecimal)]

_ChangesResult = partial(Setting, changes_result=True)
_KeepsResult = partial(Setting, changes_result=False)


class RunSettings(BaseModel):
    """Settings of ``wsi-engine run``; ``configs/*.yaml`` are presets of it.

    The options of commands are made from it (``wsi_engine/cli/settings_options.py``).

    Parameters
    ----------
    **settings
        Values by name, as `wsi_engine.run` takes them; each field says what it is for.

    Raises
    ------
    pydantic.ValidationError
        When there is no setting of that name, or it cannot have that value.

    Examples
    --------
    >>> import wsi_engine as we
    >>> we.RunSettings(tile_size=512).model
    'starconvex'
    """

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)

    model: Annotated[str, _ChangesResult("Name of the model, see `wsi-engine models`")] = (
        "starconvex"
    )
    weights: Annotated[Path | None, _ChangesResult("File of weights for the model")] = None
    ensemble: Annotated[
        tuple[str, ...],
        _ChangesResult(
            "Methods that vote, such as unet,starconvex; unet=FILE is one with weights of yours"
        ),
    ] = ()
    class_names: Annotated[
        dict[str, str],
        _ChangesResult("Name for a class of the model, such as Inflammatory=Immune cells"),
    ] = {}
    class_colours: Annotated[
        dict[str, Colour],
        _ChangesResult("Colour of a class in QuPath, such as Tumor=#c80000"),
    ] = {}
    mpp: Annotated[
        float | None,
        _ChangesResult(
            "Pixel size of the slide; of several slides, of those that state none", unit="µm"
        ),
    ] = None
    override_mpp: Annotated[
        bool, _KeepsResult("Let mpp replace what several slides state of their pixel size")
    ] = False
    roi: Annotated[
        Path | None, _ChangesResult("GeoJSON with annotations from QuPath that bound the work")
    ] = None
    roi_class: Annotated[
        tuple[str, ...], _ChangesResult("Only regions of this class bound the work")
    ] = ()
    exclude_class: Annotated[
        tuple[str, ...], _ChangesResult("Regions of this class are cut out of it")
    ] = ()
    regions_model: Annotated[
        str | None,
        _ChangesResult(
            "Model that finds the regions: a file of `wsi-engine regions-train`, or a segmentor of "
            "TIAToolbox, see docs/regions.md"
        ),
    ] = None
    regions_weights: Annotated[
        Path | None, _ChangesResult("File of weights for that segmentor")
    ] = None
    region_smoothing: Annotated[
        float,
        _ChangesResult("Gaussian that smooths where one class of region ends", unit="µm"),
        Field(ge=0, le=100),
    ] = 8.0
    min_region_area: Annotated[
        float, _ChangesResult("Smaller regions are dropped", unit="µm²"), Field(ge=0)
    ] = 2000.0
    min_region_hole: Annotated[
        float, _ChangesResult("Smaller holes in regions are filled", unit="µm²"), Field(ge=0)
    ] = 2000.0
    tissue: Annotated[bool, _ChangesResult("Find the tissue and leave out the glass")] = True
    drop_red: Annotated[
        bool,
        _ChangesResult("Leave out what is red, such as red blood cells: a mean b* above -8"),
    ] = False
    tta: Annotated[
        Literal[4, 8] | None,
        _ChangesResult("Turns, or flips and turns, in which each tile is seen"),
    ] = None
    normalise: Annotated[
        Method | None, _ChangesResult("Show the model the slide in colours that it knows")
    ] = None
    normalise_target: Annotated[
        Path | None,
        _ChangesResult(
            "Image, or .looks.json, of those colours; those in the model's card if none"
        ),
    ] = None
    split_dab: Annotated[
        SplitDab,
        _ChangesResult("Show the default model haematoxylin and DAB apart; auto where it sees DAB"),
    ] = "auto"
    refine: Annotated[
        Literal["gradient", "contour"] | None,
        _ChangesResult("Move borders by up to 1 µm to where haematoxylin ends"),
    ] = None
    min_area: Annotated[
        float | None, _ChangesResult("Area of the smallest nuclei", unit="µm²"), Field(gt=0)
    ] = None
    max_area: Annotated[
        float | None, _ChangesResult("Area of the largest nuclei", unit="µm²"), Field(gt=0)
    ] = None
    min_circularity: Annotated[
        float | None,
        _ChangesResult("Least 4π area / perimeter², 1 for a disc"),
        Field(ge=0, le=1),
    ] = None
    min_score: Annotated[
        float | None,
        _ChangesResult("Least score of the model, 0 to 1"),
        Field(ge=0, le=1),
    ] = None
    drop_border: Annotated[
        bool,
        _ChangesResult("Leave out nuclei at the border of the slide, or of the annotations of roi"),
    ] = False
    tile_size: Annotated[
        Annotated[int, Field(ge=64, le=LARGEST_TILE_PX)] | Literal["auto"],
        _ChangesResult("Side of a tile's core", unit="model pixels"),
    ] = "auto"
    simplify_um: Annotated[
        float,
        _ChangesResult("How far fewer vertices may move a border", unit="µm"),
        Field(ge=0, le=2),
    ] = 0.08
    cells: Annotated[
        float | None,
        _ChangesResult("Make cells of nuclei: expand them by at most so much", unit="µm"),
        Field(gt=0, le=20),
    ] = None
    measure: Annotated[
        tuple[str, ...],
        _ChangesResult(
            f"Group of measurements ({', '.join(GROUP_NAMES)}), see docs/measurements.md"
        ),
    ] = ("shape", "colour", "texture", "ring", "context")
    stains: Annotated[
        StainSetting,
        _ChangesResult(
            "Stain vectors for the measurements, such as Hematoxylin 0.65 0.70 0.29, DAB 0.27 0.57 "
            "0.78, or by name"
        ),
    ] = "H&E"
    classifier: Annotated[
        Path | None,
        _ChangesResult("Classifier that gives nuclei their classes, of `wsi-engine classify`"),
    ] = None
    positive: Annotated[
        PositiveSetting | None,
        _ChangesResult(
            "Stain or measurement that makes nuclei positive, and one threshold or three for 1+, "
            "2+ and 3+, such as dab:0.2,0.4,0.6",
            unit="OD",
        ),
    ] = None
    geojson_measurements: Annotated[
        Literal["essential", "all", "none"],
        _ChangesResult("Measurements that QuPath gets; the table always has all"),
    ] = "essential"
    split: Annotated[
        int | None,
        _ChangesResult("Most nuclei per GeoJSON file; QuPath likes fewer than 200,000"),
        Field(ge=1),
    ] = None
    regions: Annotated[
        bool, _KeepsResult("Write numbers per slide, piece of tissue and annotation at the end")
    ] = True
    report: Annotated[bool, _KeepsResult("Write the page of the slide")] = True
    device: Annotated[
        str,
        _KeepsResult("Where networks run: auto, cpu, cuda or cuda:0,1"),
        Field(pattern=r"^(auto|cpu|cuda|cuda:\d+(,\d+)*)$"),
    ] = "auto"
    batch_size: Annotated[PositiveInt | Literal["auto"], _KeepsResult("Tiles per batch")] = "auto"
    compile: Annotated[
        Literal["auto", "always", "never"],
        _KeepsResult("Compile networks for this processor, auto where that pays"),
    ] = "auto"
    workers: Annotated[
        PositiveInt | Literal["auto"], _KeepsResult("Threads that read and decode")
    ] = "auto"

    @field_validator("measure")
    @classmethod
    def _known_groups(cls, groups: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(groups)) < len(groups):
            raise ValueError("each group once")
        # With it come the kernels of numba, which `--help` does without.
        from wsi_engine.nuclei.measure.groups import find_groups

        find_groups(groups)
        return groups

    @model_validator(mode="before")
    @classmethod
    def _voting(cls, values: Any) -> Any:
        """Take methods that vote for what they are, an ensemble."""
        if isinstance(values, dict) and values.get("ensemble"):
            return {"model": ENSEMBLE} | values
        return values

    @field_validator("ensemble")
    @classmethod
    def _methods(cls, methods: tuple[str, ...], others: ValidationInfo) -> tuple[str, ...]:
        named = tuple(name.strip() for each in methods for name in each.split(","))
        if named and others.data.get("model") != ENSEMBLE:
            raise ValueError(f"these are for --model {ENSEMBLE}: leave one of the two out")
        names = [name.partition("=")[0] for name in named]
        if len(names) == 1 or len(set(names)) < len(names) or not all(names):
            raise ValueError("name two or more methods, each once")
        return named

    @field_validator("max_area")
    @classmethod
    def _above_the_smallest(cls, area: float | None, others: ValidationInfo) -> float | None:
        if area is not None and area < (others.data.get("min_area") or 0):
            raise ValueError("this is less than min_area")
        return area

    @property
    def threads(self) -> int:
        """Number of threads that read and decode."""
        return self.workers if self.workers != "auto" else os.cpu_count() or 1

    def result_settings(self) -> dict[str, Any]:
        """Return those settings that change what is found."""
        fields = type(self).model_fields
        wanted = {name for name, field in fields.items() if setting_of(field).changes_result}
        return self.model_dump(mode="json", include=wanted)

    def with_absolute_paths(self) -> RunSettings:
        """Return the same for processes that have another working directory."""
        names = ("weights", "roi", "normalise_target", "regions_weights", "classifier")
        files = {name: getattr(self, name) for name in names}
        absolute: dict[str, Any] = {
            name: path.absolute() for name, path in files.items() if path is not None
        }
        absolute["model"] = _absolute_file(self.model)
        if self.regions_model is not None:
            absolute["regions_model"] = _absolute_file(self.regions_model)
        methods = [method.partition("=") for method in self.ensemble]
        voting = [
            _absolute_file(name) + sign + str(Path(file).absolute()) * bool(file)
            for name, sign, file in methods
        ]
        return self.model_copy(update=absolute | {"ensemble": tuple(voting)})


def _absolute_file(model: str) -> str:
    """Return the path of a model that is a file, such as a card; others are known by a name."""
    return str(Path(model).absolute()) if Path(model).is_file() else model


def make_settings(config: Path | None = None, **overrides: Any) -> RunSettings:
    """Combine the defaults, a preset file and explicit values, the later winning.

    Parameters
    ----------
    config
        A YAML file of settings.
    overrides
        Settings by name; ``None`` means not given.

    Raises
    ------
    SettingsError
        Which setting has which unusable value.
    """
    values: dict[str, Any] = _read_preset(config) if config else {}
    values |= {name: value for name, value in overrides.items() if value is not None}
    try:
        return RunSettings(**values)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"][:1])
        if first["type"] == "extra_forbidden":
            known = ", ".join(RunSettings.model_fields)
            raise SettingsError(f"there is no setting {name!r}; there are {known}") from None
        # A setting that takes words or numbers has an error for each of them.
        about = [each for each in error.errors() if each["loc"][:1] == (name,)]
        wanted = " or ".join(dict.fromkeys(_wanted(name, each) for each in about))
        raise SettingsError(f"{name} = {first['input']!r}: give {wanted}") from None


_WANTED = {
    "greater_than_equal": "a number from {ge:g}",
    "greater_than": "a number above {gt:g}",
    "less_than_equal": "a number up to {le:g}",
    "literal_error": "{expected}",
    "int_parsing": "a whole number",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_parsing": "a number",
    "float_type": "a number",
    "bool_parsing": "true or false",
    "bool_type": "true or false",
    "path_type": "the name of a file",
    "string_type": "a text",
    "tuple_type": "a list",
    "dict_type": "names with values",
}
"""What a setting takes, by pydantic's type of error."""


def _wanted(name: str, error: ErrorDetails) -> str:
    """Say what a setting takes, in words that follow "give"."""
    if error["type"] == "string_pattern_mismatch":
        return setting_of(RunSettings.model_fields[name]).help.rpartition(": ")[2]
    if error["type"] == "value_error":
        return f"another value: {error['ctx']['error']}"
    wanted = _WANTED.get(error["type"], f"another value, as {error['msg']}")
    return wanted.format(**error.get("ctx", {}))


def _read_preset(path: Path) -> dict[str, Any]:
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(f"{path}: {error.strerror}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path.name} is not YAML: {error}") from None
    if not isinstance(values, dict | None):
        raise SettingsError(f"{path.name} must hold settings as `name: value` lines")
    return values or {}

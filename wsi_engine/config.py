"""Every setting of a run, once: its default, its unit, its check."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PositiveInt,
    ValidationError,
    field_validator,
)

from wsi_engine.errors import SettingsError
from wsi_engine.nuclei.measure.groups import Group
from wsi_engine.slide.stain_vectors import StainSetting

LARGEST_TILE_PX = 65_536


class RunSettings(BaseModel):
    """Settings of ``wsi-engine run``; ``configs/*.yaml`` are presets of it.

    Only those marked *result* change what is found; the others change how fast.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)

    model: str = Field("starconvex", description="result: name of the model, see `models`")
    weights: Path | None = Field(None, description="result: file of weights for the model")
    mpp: float | None = Field(
        None, description="result: pixel size of the slide in µm, where the file's is not right"
    )
    roi: Path | None = Field(
        None, description="result: GeoJSON whose annotations bound the work, QuPath pixels"
    )
    roi_class: tuple[str, ...] = Field(
        (), description="result: classes of the annotations that bound the work; none for all"
    )
    exclude_class: tuple[str, ...] = Field(
        (), description="result: classes of the annotations that are cut out of it"
    )
    tissue: bool = Field(True, description="result: find the tissue and leave out the glass")
    tile_size: int = Field(
        1024, ge=64, le=LARGEST_TILE_PX, description="result: side of a tile's core, model pixels"
    )
    simplify_um: float = Field(
        0.08, ge=0, le=2, description="result: how far fewer vertices may move a border, in µm"
    )
    measure: tuple[Group, ...] = Field(
        ("shape", "colour", "texture", "ring", "context"),
        description="result: groups of measurements, see docs/measurements.md",
    )
    stains: StainSetting = Field("H&E", description="result: stain vectors for the measurements")
    geojson_measurements: Literal["essential", "all", "none"] = Field(
        "essential", description="result: what QuPath gets; the table always has all"
    )
    split: int | None = Field(
        None, ge=1, description="result: most nuclei per GeoJSON file; QuPath likes < 200,000"
    )
    regions: bool = Field(
        True, description="numbers per slide, piece of tissue and annotation, at the end of the run"
    )
    device: str = Field("auto", pattern=r"^(auto|cpu|cuda|cuda:\d+(,\d+)*)$", description="where")
    batch_size: PositiveInt | Literal["auto"] = Field("auto", description="tiles per batch")
    compile: Literal["auto", "always", "never"] = Field(
        "auto", description="networks, for this processor: where it pays, or where it can be done"
    )
    workers: PositiveInt | Literal["auto"] = Field(
        "auto", description="threads that read and decode"
    )

    report: bool = Field(True, description="write the page of the slide")

    @field_validator("measure")
    @classmethod
    def _each_group_once(cls, groups: tuple[Group, ...]) -> tuple[Group, ...]:
        if len(set(groups)) < len(groups):
            raise ValueError("each group once")
        return groups

    @property
    def threads(self) -> int:
        """Number of threads that read and decode."""
        return self.workers if self.workers != "auto" else os.cpu_count() or 1

    def result_settings(self) -> dict[str, Any]:
        """Return those settings that change what is found."""
        fields = type(self).model_fields
        wanted = {k for k, v in fields.items() if (v.description or "").startswith("result")}
        return self.model_dump(mode="json", include=wanted)


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
        raise SettingsError(f"{name} = {first['input']!r}: {first['msg']}") from None


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

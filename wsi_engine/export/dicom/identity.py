"""What every object that is written says of itself: UIDs, time, equipment, algorithm."""

from __future__ import annotations

import uuid
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from wsi_engine.digests import digest_of
from wsi_engine.errors import ExportError, ResultError
from wsi_engine.export.dicom import codes
from wsi_engine.export.dicom.slide import DicomSlide
from wsi_engine.export.extras import extra
from wsi_engine.nuclei.identity import namespace_of
from wsi_engine.results.finished import SlideResult
from wsi_engine.results.layout import RECORD
from wsi_engine.version import __version__

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

UTF_8 = "ISO_IR 192"
_SERIES = {"annotations": 9001, "regions": 9002}
"""Numbers of the series in their study, well behind those of the images."""


@dataclass(frozen=True)
class Identity:
    """Where an export is from.

    Attributes
    ----------
    namespace
        The same for the same result, slide and options; so are UIDs and bytes.
    time
        When the result was finished, UTC.
    """

    namespace: uuid.UUID
    time: datetime

    @classmethod
    def of(cls, run: SlideResult, slide: DicomSlide, options: str) -> Identity:
        """Return the identity of an export with some options.

        Raises
        ------
        ResultError
            When the record does not say when the result was finished.
        """
        record = digest_of(run.folder / RECORD)
        what = f"{record} {run.digest} {slide.finest.SOPInstanceUID} {options} {__version__}"
        try:
            finished = datetime.fromisoformat(run.record.finished)
        except ValueError:
            raise ResultError(
                f"{run.folder / RECORD} does not say when the result was finished: run the slide "
                "again"
            ) from None
        return cls(namespace_of(what, "dicom"), finished.astimezone(UTC))

    def uid(self, what: str) -> str:
        """Return a UID made of a UUID (PS3.5, B.2)."""
        return f"2.25.{uuid.uuid5(self.namespace, what).int}"

    def algorithm(self, name: str) -> Any:
        """Return the sequence that names an algorithm."""
        made = extra("highdicom", "dicom").AlgorithmIdentificationSequence
        return made(codes.text(name), codes.concept(codes.FAMILY), __version__, "wsi_engine")

    def arguments(self, what: str, used: Iterable[codes.Code]) -> dict[str, Any]:
        """Return the arguments that all objects of highdicom take.

        Parameters
        ----------
        what
            ``annotations`` or ``regions``.
        used
            Codes in the object.
        """
        scheme = codes.scheme_item(used)
        return {
            "series_instance_uid": self.uid(f"series of {what}"),
            "series_number": _SERIES[what],
            "sop_instance_uid": self.uid(what),
            "instance_number": 1,
            "series_description": f"wsi_engine: {what}",
            "manufacturer": "wsi_engine",
            "manufacturer_model_name": "wsi-engine",
            "software_versions": __version__,
            "device_serial_number": "none",
            "specific_character_set": UTF_8,
            "content_date": self.time.date(),
            "content_time": self.time.time(),
            "coding_schemes": None if scheme is None else [scheme],
        }


def made_of(slide: DicomSlide, make: Callable[[], Any], identity: Identity) -> Dataset:
    """Make an object of the headers of a slide; its times are those of the result.

    Raises
    ------
    ExportError
        When the headers lack what every object must have.
    """
    try:
        with warnings.catch_warnings():
            # Of values that the slide has against the standard, which are copied as they are.
            warnings.simplefilter("ignore")
            made = make()
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        reason = f"{error}".partition("\n")[0]
        raise ExportError(
            f"{slide.path.name} lacks what DICOM objects take over from their slide, of patient, "
            f"study, specimen or place: {reason}"
        ) from None
    made.InstanceCreationDate = made.ContentDate
    made.InstanceCreationTime = made.ContentTime
    for item in made.ContributingEquipmentSequence:
        if "ContributionDateTime" in item and item.get("ManufacturerModelName") == "highdicom":
            item.ContributionDateTime = f"{identity.time:%Y%m%d%H%M%S}"
    return made

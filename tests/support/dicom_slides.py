"""DICOM slides as scanners write them: with patient, study, specimen, and a place on the glass."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from highdicom import SpecimenDescription
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import UID

from tests.support.dicom import write_dicom_slide

ORIGIN_MM = (20.0, 40.0)
"""Where the centre of the first pixel lies on the slide."""

DOWN_AND_LEFT = [0, -1, 0, -1, 0, 0]
"""Rows run along -y and columns along -x: the label is on the left, as scanners put the glass."""


def write_whole_slide(
    folder: Path, pixels: np.ndarray, *, orientation=DOWN_AND_LEFT, mpp=0.25, **attributes
) -> Path:
    """Write a slide of two levels, a label and an overview, and return the file of the finest."""
    write_dicom_slide(folder, pixels, level0={"mpp": mpp}, level1={"mpp": 2 * mpp})
    for file in folder.iterdir():
        image = dcmread(file)
        for keyword, value in (facts_of(orientation, image) | attributes).items():
            setattr(image, keyword, value)
            if value is None:
                del image[keyword]
        image.save_as(file)
    return folder / "level0.dcm"


def facts_of(orientation, image: Dataset) -> dict[str, object]:
    """What a header holds beside what `write_dicom` writes."""
    place = Dataset()
    spacing = image.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].PixelSpacing[0]
    # The first pixel of a coarser level has its centre further in.
    shift = (float(spacing) - 0.00025) / 2
    place.XOffsetInSlideCoordinateSystem = ORIGIN_MM[0] + shift * (orientation[0] + orientation[3])
    place.YOffsetInSlideCoordinateSystem = ORIGIN_MM[1] + shift * (orientation[1] + orientation[4])
    return {
        "SpecificCharacterSet": "ISO_IR 100",
        "PatientID": "P-17",
        "PatientName": "Müller^Jörg",
        "PatientBirthDate": "19500102",
        "PatientSex": "O",
        "AccessionNumber": "A-3",
        "StudyID": "S-1",
        "StudyDate": "20250607",
        "StudyTime": "080910",
        "ReferringPhysicianName": "",
        "Manufacturer": "Scanner",
        "ContainerIdentifier": "Glass 5",
        "IssuerOfTheContainerIdentifierSequence": [],
        "ContainerTypeCodeSequence": [],
        "SpecimenDescriptionSequence": [
            SpecimenDescription(specimen_id="Block 2", specimen_uid=UID("1.2.3.9"))
        ],
        "PositionReferenceIndicator": "SLIDE_CORNER",
        "FrameOfReferenceUID": "1.2.3.1",
        "ImageOrientationSlide": orientation,
        "TotalPixelMatrixOriginSequence": [place],
    }

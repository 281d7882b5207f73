#!/usr/bin/env bash
# A grey label in a DICOM series makes the whole colour slide unopenable for OpenSlide.
#
# Versions   openslide-python 1.4.3 with openslide-bin 4.0.1.1; written with pydicom 3.0.1
# Behaviour  OpenSlide opens every whole slide image of a series beside the file that is named, the
#            label too. DICOM allows a label in MONOCHROME2 (VL Whole Slide Microscopy Image, PS3.3
#            C.8.12.4), which has no planar configuration; with it the slide fails to open, whichever
#            file is named, and opens once the label is moved away.
# Seen       colour label: 1 level, grey label: Couldn't read PlanarConfiguration, no label: 1 level
# Exits with another status than 0 once that changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv env
env/bin/pip install --quiet --disable-pip-version-check \
    openslide-python==1.4.3 openslide-bin==4.0.1.1 pydicom==3.0.1 pillow==12.1.1
env/bin/python - <<'PYTHON'
from pathlib import Path

import openslide
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

STUDY, SERIES, FRAME = generate_uid(), generate_uid(), generate_uid()
WHOLE_SLIDE = "1.2.840.10008.5.1.4.1.1.77.1.6"


def write(name, flavor, is_grey):
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = WHOLE_SLIDE, generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    image = FileDataset("", {}, file_meta=meta, preamble=bytes(128))
    image.SOPClassUID, image.SOPInstanceUID = WHOLE_SLIDE, meta.MediaStorageSOPInstanceUID
    image.StudyInstanceUID, image.SeriesInstanceUID, image.FrameOfReferenceUID = (
        STUDY, SERIES, FRAME,
    )
    image.Modality, image.ImageType = "SM", ["ORIGINAL", "PRIMARY", flavor, "NONE"]
    image.SamplesPerPixel = 1 if is_grey else 3
    image.PhotometricInterpretation = "MONOCHROME2" if is_grey else "RGB"
    if not is_grey:
        image.PlanarConfiguration = 0
    image.BitsAllocated = image.BitsStored = 8
    image.HighBit, image.PixelRepresentation = 7, 0
    image.Rows = image.Columns = 256
    image.NumberOfFrames = 1
    image.TotalPixelMatrixRows = image.TotalPixelMatrixColumns = 256
    image.TotalPixelMatrixFocalPlanes = 1
    image.ImageOrientationSlide = [0, -1, 0, -1, 0, 0]
    image.DimensionOrganizationType = "TILED_FULL"
    path, measures, groups = Dataset(), Dataset(), Dataset()
    path.OpticalPathIdentifier = "0"
    image.OpticalPathSequence = [path]
    measures.PixelSpacing, measures.SliceThickness = [0.0005, 0.0005], 0.001
    groups.PixelMeasuresSequence = [measures]
    image.SharedFunctionalGroupsSequence = [groups]
    image.PixelData = bytes([200]) * (256 * 256 * image.SamplesPerPixel)
    image.save_as(name, enforce_file_format=True)


def opened():
    try:
        return f"{openslide.OpenSlide('volume.dcm').level_count} level"
    except openslide.OpenSlideError as error:
        return str(error).rpartition(": ")[2]


write("volume.dcm", "VOLUME", is_grey=False)
write("label.dcm", "LABEL", is_grey=False)
colour = opened()
write("label.dcm", "LABEL", is_grey=True)
grey = opened()
Path("label.dcm").unlink()
none = opened()
print(f"colour label: {colour}, grey label: {grey}, no label: {none}")
assert (colour, grey, none) == ("1 level", "Couldn't read PlanarConfiguration", "1 level")
PYTHON

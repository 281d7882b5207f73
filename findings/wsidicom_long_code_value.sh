#!/usr/bin/env bash
# wsidicom reads no annotations whose code has more than 16 characters.
#
# Versions   wsidicom 0.33.1 with pydicom 3.0.1; written with highdicom 0.28.2
# Behaviour  DICOM has code values of up to 16 characters in CodeValue, and longer ones in
#            LongCodeValue instead (PS3.3 8.1; codes of extensions of SNOMED CT have 18 digits).
#            AnnotationInstance.open asks every code for CodeValue, so that one group with a long code
#            makes all groups of the object unreadable.
# Seen       16 characters (CodeValue): 1 group, 17 characters (LongCodeValue): AttributeError,
#            17 characters in the second group: AttributeError
# Exits with another status than 0 once that changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv env
env/bin/pip install --quiet --disable-pip-version-check \
    wsidicom==0.33.1 pydicom==3.0.1 highdicom==0.28.2 numpy==2.4.6 pillow==13.0.0
env/bin/python - <<'PYTHON'
import numpy as np
from highdicom import AlgorithmIdentificationSequence
from highdicom.ann import AnnotationGroup, MicroscopyBulkSimpleAnnotations
from highdicom.sr import CodedConcept
from pydicom import dcmread
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid
from wsidicom.graphical_annotations import AnnotationInstance

SCHEME = "99EXAMPLE"

slide = Dataset()
slide.file_meta = FileMetaDataset()
slide.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
slide.SOPClassUID = "1.2.840.10008.5.1.4.1.1.77.1.6"
for name in ("SOPInstance", "StudyInstance", "SeriesInstance", "FrameOfReference"):
    setattr(slide, f"{name}UID", generate_uid())
for name in ("PatientID", "PatientName", "PatientBirthDate", "PatientSex", "StudyID", "StudyDate",
             "StudyTime", "AccessionNumber", "ReferringPhysicianName"):  # fmt: skip
    setattr(slide, name, "")
slide.Modality, slide.ImageType = "SM", ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"]
slide.ContainerIdentifier, slide.SpecimenDescriptionSequence = "1", []
slide.IssuerOfTheContainerIdentifierSequence = slide.ContainerTypeCodeSequence = []
slide.Rows = slide.Columns = slide.TotalPixelMatrixRows = slide.TotalPixelMatrixColumns = 256
slide.TotalPixelMatrixFocalPlanes = 1


def write(*codes):
    by = CodedConcept("by-example", SCHEME, "By example")
    groups = [
        AnnotationGroup(
            number=k,
            uid=generate_uid(),
            label=f"group {k}",
            annotated_property_category=CodedConcept("91723000", "SCT", "Anatomical structure"),
            annotated_property_type=CodedConcept(code, SCHEME, "Nucleus"),
            graphic_type="POINT",
            graphic_data=[np.array([[3.0, 4.0]])],
            algorithm_type="AUTOMATIC",
            algorithm_identification=AlgorithmIdentificationSequence("example", by, "1"),
        )
        for k, code in enumerate(codes, start=1)
    ]
    MicroscopyBulkSimpleAnnotations(
        source_images=[slide], annotation_coordinate_type="2D", annotation_groups=groups,
        series_instance_uid=generate_uid(), series_number=1, sop_instance_uid=generate_uid(),
        instance_number=1, manufacturer="none", manufacturer_model_name="none",
        software_versions="1", device_serial_number="1",
    ).save_as("annotations.dcm")  # fmt: skip
    item = dcmread("annotations.dcm").AnnotationGroupSequence[-1]
    (code,) = item.AnnotationPropertyTypeCodeSequence
    return "LongCodeValue" if "LongCodeValue" in code else "CodeValue"


def opened():
    try:
        (instance,) = AnnotationInstance.open(["annotations.dcm"])
    except AttributeError as error:
        assert "CodeValue" in str(error)
        return "AttributeError"
    return f"{len(instance.groups)} group"


short, long = "nucleus-of-tumor", "nucleus-of-stroma"
assert (len(short), len(long)) == (16, 17)
where = [write(short)]
seen = [opened()]
where.append(write(long))
seen.append(opened())
write(short, long)
seen.append(opened())
print(
    f"16 characters ({where[0]}): {seen[0]}, 17 characters ({where[1]}): {seen[1]}, "
    f"17 characters in the second group: {seen[2]}"
)
assert where == ["CodeValue", "LongCodeValue"]
assert seen == ["1 group", "AttributeError", "AttributeError"]
PYTHON

"""Finished results as DICOM objects that refer to the DICOM images of the slide."""

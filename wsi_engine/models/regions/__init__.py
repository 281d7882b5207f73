"""Models of regions, the first of two steps: pixels at low resolution to classes of tissue.

``protocol`` says what such a model is, ``loading`` finds one by file or name. `wsi-engine
regions-train` writes a ``pixel_classifier`` (``features`` into a ``forest``); ``segmentors`` are
TIAToolbox's. ``outlines`` turns classes of pixels into polygons.
"""

"""Slides as OME-Zarr: OME-NGFF 0.4 (Zarr 2) and 0.5 (Zarr 3), in a folder or a ZIP file."""

"""Slides: opening, pixel size, coordinate frames, reading at any resolution, tissue, stain."""

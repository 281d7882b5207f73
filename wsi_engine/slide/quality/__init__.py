"""What a slide's pixels say against trusting its nuclei: blur, pen, folds, too little tissue.

All of it is seen at low resolution, from the whole slide or from fields spread over its tissue:
memory is bounded, and nothing depends on tiles.
"""

from wsi_engine.slide.quality.assess import assess_slide
from wsi_engine.slide.quality.flag import Flag, FlagLevel
from wsi_engine.slide.quality.overview import Overview, read_slide_overview

__all__ = ["Flag", "FlagLevel", "Overview", "assess_slide", "read_slide_overview"]

"""A phantom: an H&E-like image drawn from nuclei whose outlines are known exactly.

The truth comes first, the pixels follow from it. Every coordinate is a pixel corner: pixel
(3, 2) is the square from (3, 2) to (4, 3), as in QuPath. All randomness comes from the
generator handed in, so one seed gives one image.
"""

from wsi_engine.phantom.immunostain import render_immunostain
from wsi_engine.phantom.outlines import Blobs, Kind, PhantomNuclei, make_nuclei
from wsi_engine.phantom.render import render_tissue
from wsi_engine.phantom.repeat import RepeatedBlock
from wsi_engine.phantom.scatter import scatter_nuclei
from wsi_engine.phantom.tissue import Tissue, lay_out_tissue

__all__ = [
    "Blobs",
    "Kind",
    "PhantomNuclei",
    "RepeatedBlock",
    "Tissue",
    "lay_out_tissue",
    "make_nuclei",
    "render_immunostain",
    "render_tissue",
    "scatter_nuclei",
]

"""The facts about TIAToolbox's MicroNet, to be had without torch and TIAToolbox."""

from __future__ import annotations

from wsi_engine.models.protocol import ModelSpec

PATCH_PX = 252
"""Side of the only images that the network takes."""
STEP_PX = 150
"""From one patch to the next, as in TIAToolbox; the middle of a patch is as wide."""

LARGEST_OBJECT_PX = 100
"""25 µm: what hangs together in a wider clump is not reported."""

SPEC = ModelSpec(
    name="micronet-consep",
    summary="MicroNet of TIAToolbox, trained on CoNSeP",
    mpp=0.25,
    stride=STEP_PX,
    # All of a patch can change its middle.
    receptive_radius_px=(PATCH_PX + STEP_PX) // 2 - 1,
    # Outlines run up to half a pixel around the pixels.
    largest_object_px=LARGEST_OBJECT_PX + 1,
    licence="Apache-2.0 (published weights)",
    embedded=False,
    max_overlap=0.1,
    bytes_per_px=128,  # maps and decoding: the network sees one patch at a time
)

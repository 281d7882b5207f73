"""The facts about TIAToolbox's semantic segmentors, to be had without torch and TIAToolbox."""

from __future__ import annotations

from wsi_engine.models.regions.protocol import RegionsSpec

STRIDE = 32

MARGIN_PX = 320
"""Receptive radius of a ResNet-50 with TIAToolbox's decoder, up to the next multiple of the
stride."""

SPECS = {
    spec.name: spec
    for spec in (
        RegionsSpec(
            "fcn_resnet50_unet-bcss",
            0.25,
            ("Tumor", "Stroma", "Immune cells", "Necrosis", "Other"),
            MARGIN_PX,
            STRIDE,
        ),
        RegionsSpec("fcn-tissue_mask", 2.0, ("Ignore*", "Tissue"), MARGIN_PX, STRIDE),
    )
}
"""The segmentors by TIAToolbox's own names, with QuPath's names for their classes. Those that look
at pixels of no stated size, or compress tiles as JPEG before they look, are left out."""

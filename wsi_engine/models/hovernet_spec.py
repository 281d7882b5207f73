"""The facts about TIAToolbox's HoVerNet models, to be had without torch and TIAToolbox."""

from __future__ import annotations

from dataclasses import dataclass

from wsi_engine.models.hovernet_scale import DECODER_REACH_PX, LARGEST_OBJECT_PX, scale_at
from wsi_engine.models.protocol import ModelSpec

STRIDE = 8

BYTES_PER_PX = 128
"""Maps and decoding; the network itself goes over a tile in windows that fit the memory."""

_NON_COMMERCIAL = "CC BY-NC-SA 4.0 (published weights: non-commercial use only)"


@dataclass(frozen=True, slots=True)
class Geometry:
    """What an architecture does to the sides of an image, in pixels.

    Attributes
    ----------
    added
        Border to add to an image whose sides are multiples of the stride.
    lost
        Border of the image (before that) for which there is no output.
    receptive_radius
        How far an input pixel reaches; more than ``lost``, as the encoder pads with zeros.
    """

    added: int
    lost: int
    receptive_radius: int

    @property
    def margin(self) -> int:
        """Border within which zeros are seen that the encoder pads with, in whole strides."""
        return -(-self.receptive_radius // STRIDE) * STRIDE


GEOMETRY = {"fast": Geometry(0, 46, 109), "original": Geometry(3, 92, 156)}


def _spec(mode: str, dataset: str, classes: tuple[str, ...], licence: str) -> ModelSpec:
    return ModelSpec(
        name=f"hovernet_{mode}-{dataset.lower()}",
        summary=f"HoVerNet ({mode}) of TIAToolbox, trained on {dataset}",
        mpp=0.25,
        stride=STRIDE,
        receptive_radius_px=GEOMETRY[mode].receptive_radius + DECODER_REACH_PX,
        largest_object_px=LARGEST_OBJECT_PX,
        classes=classes,
        licence=licence,
        embedded=False,
        bytes_per_px=BYTES_PER_PX,
    )


_PANNUKE = ("Neoplastic", "Inflammatory", "Connective", "Dead", "Non-Neoplastic Epithelial")
_MONUSAC = ("Epithelial", "Lymphocyte", "Macrophage", "Neutrophil")
_CONSEP = ("Epithelial", "Inflammatory", "Spindle-Shaped", "Miscellaneous")

SPECS = {
    spec.name: spec
    for spec in (
        _spec("fast", "PanNuke", _PANNUKE, _NON_COMMERCIAL),
        _spec("fast", "MoNuSAC", _MONUSAC, _NON_COMMERCIAL),
        _spec("original", "CoNSeP", _CONSEP, "Apache-2.0 (published weights)"),
        _spec("original", "Kumar", (), _NON_COMMERCIAL),
    )
}
"""The models by TIAToolbox's own names, classes in the order of its type maps (without the
background) and licences from https://tia-toolbox.readthedocs.io/en/latest/license.html."""

_PLUS_MPP = 0.5

PLUS_SPEC = ModelSpec(
    name="hovernetplus-oed",
    summary="HoVerNet+ of TIAToolbox, trained on oral epithelial dysplasia",
    mpp=_PLUS_MPP,
    stride=STRIDE,
    receptive_radius_px=GEOMETRY["fast"].receptive_radius + scale_at(_PLUS_MPP).reach_px,
    largest_object_px=scale_at(_PLUS_MPP).longest,
    classes=("Other", "Epithelial"),
    licence=_NON_COMMERCIAL,
    embedded=False,
    bytes_per_px=BYTES_PER_PX,
)
"""HoVer-Net on coarser pixels, which also finds the layers of an epithelium.

Method: Shephard et al., ICCV Workshops 2021, 552-561.
"""

PLUS_LAYERS = 5
"""Kinds of tissue that its network tells apart."""

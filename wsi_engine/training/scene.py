"""A crop before its appearance is perturbed: pixels, labels, and what is known of each nucleus."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from wsi_engine.evaluation.images import UNKNOWN
from wsi_engine.models.label_rays import boundary_peaks
from wsi_engine.training.classes import Classes

Float32 = npt.NDArray[np.float32]
Labels = npt.NDArray[np.uint16]

# With less than the rest of it to see, nobody would call it a nucleus.
_GONE = 0.85


@dataclass(slots=True)
class Scene:
    """A crop that things can be put into or drawn over.

    Attributes
    ----------
    image
        Intensities in [0, 255], float32 (h, w, 3).
    labels
        uint16, ``finer`` to the pixel and ``margin_px`` pixels beyond the crop on each side.
    peaks
        Largest distance to the boundary by label, in pixels of the crop.
    classes
        Class index by label, as long as ``peaks``.
    mpp
        Pixel size in µm.
    taught
        Object probability by a teacher at the points of the output grid, NaN where it has not
        seen what is there; ``None`` without a teacher.
    """

    image: Float32
    labels: Labels
    peaks: Float32
    classes: Classes
    mpp: float
    margin_px: int
    finer: int
    taught: Float32 | None = None

    @property
    def inner(self) -> Labels:
        """The labels of the crop itself, a view."""
        edge = self.margin_px * self.finer
        return self.labels[edge:-edge, edge:-edge] if edge else self.labels

    def nuclei(self) -> Float32:
        """Return the share of each pixel that is nucleus, (h, w)."""
        inner = self.inner
        return self._share((inner > 0) & (inner != UNKNOWN))

    def unknown(self) -> Float32:
        """Return the share of each pixel of which nothing is known, (h, w)."""
        return self._share(self.inner == UNKNOWN)

    def _share(self, mask: npt.NDArray[np.bool_]) -> Float32:
        height, width = self.image.shape[:2]
        blocks = mask.reshape(height, self.finer, width, self.finer)
        return np.asarray(blocks.mean(axis=(1, 3)), np.float32)

    def hide(self, covered: npt.NDArray[np.bool_], *, opaque: bool = True) -> None:
        """Take away what is under a cover, bool (h, w).

        What it hides of a nucleus is unknown. A nucleus of which next to nothing is left to
        see is gone, unless the cover is not ``opaque`` and may let it shine through.
        """
        fine = covered.repeat(self.finer, axis=0).repeat(self.finer, axis=1)
        edge = self.margin_px * self.finer
        mask = np.pad(fine, edge, mode="edge")
        count = len(self.peaks)
        known = np.where(self.labels == UNKNOWN, 0, self.labels)
        whole = np.bincount(known.reshape(-1), minlength=count)
        hidden = np.bincount(known[mask], minlength=count)
        gone = (hidden > _GONE * whole) & opaque
        gone[0] = False
        under = mask & (known > 0)
        self.labels[under] = UNKNOWN
        self.labels[gone[known]] = 0

    def clear(self) -> None:
        """Leave no nucleus: all of the crop and its surroundings is known to be none."""
        self.labels[:] = 0
        if self.taught is not None:
            self.taught[:] = 0

    def change(self, changed: npt.NDArray[np.bool_]) -> None:
        """Note that the teacher has not seen what is there now, bool (h, w)."""
        if self.taught is not None:
            step = changed.shape[0] // self.taught.shape[0]
            self.taught[changed[step // 2 :: step, step // 2 :: step]] = np.nan

    def add(self, place: tuple[slice, slice], nucleus: npt.NDArray[np.bool_], kind: int) -> None:
        """Label a nucleus, a mask of a place in the labels of the crop."""
        self.inner[place][nucleus] = len(self.peaks)
        peaks = boundary_peaks(np.pad(nucleus.astype(np.uint16), 1))
        self.peaks = np.append(self.peaks, peaks[1:] / np.float32(self.finer))
        self.classes = np.append(self.classes, np.int16(kind))

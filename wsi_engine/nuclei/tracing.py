"""From label images to polygons whose borders run where the pixels' borders run.

Contours through pixel *centres* (``cv2.findContours``) are shifted by half a pixel and half
a pixel too small all round. Here every vertex lies between the centre of a pixel inside and
that of its neighbour outside: half way, or where a measured field crosses a level, which
places it to a fraction of a pixel.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from skimage import measure

from wsi_engine.kernels import kernel

CLOSEST_TO_CENTRE = 0.05
"""Distance in pixels that a vertex keeps from pixel centres: rings never touch themselves."""


def trace_labels(
    labels: npt.NDArray[np.int32],
    field: npt.NDArray[np.float32] | None = None,
    level: float = 0.0,
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Outline every label.

    Parameters
    ----------
    labels
        int32, shape (height, width), 0 for background. Where a label has several 4-connected
        parts, the largest is outlined; holes are filled.
    field, level
        A measured image, shape (height, width), that lies above ``level`` inside. Where a border
        separates a pixel above from one below, the vertex is put where the interpolated field
        crosses the level; elsewhere, and without a field, half way.

    Returns
    -------
    xy
        float64, shape (v, 2), vertices of the open, simple exterior rings in pixel-corner
        coordinates, clockwise on the screen.
    offsets
        int64, shape (n + 1,): ring k is ``xy[offsets[k]:offsets[k + 1]]``.
    label_ids
        int64, shape (n,), ascending: the label of each ring.

    Examples
    --------
    >>> labels = np.zeros((4, 4), np.int32)
    >>> labels[1:3, 1:3] = 7
    >>> xy, offsets, ids = trace_labels(labels)
    >>> len(xy), ids.tolist(), float(xy.min()), float(xy.max())
    (8, [7], 1.0, 3.0)
    """
    parts, starts, label_ids = _largest_parts(labels)
    if len(label_ids) == 0:
        return np.empty((0, 2)), np.zeros(1, np.int64), label_ids
    # A frame of background spares the tracer every check at the image border.
    framed = np.pad(parts, 1)
    values = None if field is None else np.pad(field.astype(np.float32), 1, mode="edge")
    if values is None:
        values, level = np.zeros((0, 0), np.float32), 0.0
    xy, offsets = _trace(framed, starts, values, np.float32(level))
    return xy, offsets, label_ids


def _largest_parts(
    labels: npt.NDArray[np.int32],
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return connected parts, the number of the part to trace by label, and the labels."""
    parts = measure.label(labels, connectivity=1, background=0).astype(np.int32)
    flat = parts.ravel()
    first = np.full(int(flat.max(initial=0)) + 1, -1, np.int64)
    pixels = np.flatnonzero(flat)
    first[flat[pixels[::-1]]] = pixels[::-1]
    first = first[1:]
    sizes = np.bincount(flat, minlength=len(first) + 1)[1:]
    owners = labels.ravel()[first] if len(first) else np.empty(0, np.int32)
    order = np.lexsort((first, -sizes, owners))
    label_ids, best = np.unique(owners[order], return_index=True)
    return parts, first[order][best], label_ids.astype(np.int64)


@kernel
def _trace(
    parts: npt.NDArray[np.int32],
    starts: npt.NDArray[np.int64],
    field: npt.NDArray[np.float32],
    level: np.float32,
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    """Walk round the parts that begin at some pixels.

    Parameters
    ----------
    parts
        Connected parts with a frame of background, shape (height + 2, width + 2).
    starts
        First pixel of each part to trace in the flattened image without frame, shape (n,).
    field, level
        Those of `trace_labels`, with a frame; without a field, shape (0, 0).

    Returns
    -------
    xy, offsets
        Those of `trace_labels`.
    """
    width = parts.shape[1] - 2
    use_field = field.size > 0
    # Steps from corner to corner: east, south, west, north; the object lies to the right.
    step_x = np.array([1, 0, -1, 0])
    step_y = np.array([0, 1, 0, -1])
    # The pixels ahead of a corner, to the right and to the left of each heading.
    right_x, right_y = np.array([0, -1, -1, 0]), np.array([0, 0, -1, -1])
    left_x, left_y = np.array([0, 0, -1, -1]), np.array([-1, 0, 0, -1])

    xy = np.empty((max(64, 64 * starts.size), 2), np.float64)
    offsets = np.zeros(starts.size + 1, np.int64)
    used = 0
    for k in range(starts.size):
        start_x = starts[k] % width + 1
        start_y = starts[k] // width + 1
        part = parts[start_y, start_x]
        x, y, heading = start_x, start_y, 0
        while True:
            inside_x, inside_y = x + right_x[heading], y + right_y[heading]
            outside_x, outside_y = x + left_x[heading], y + left_y[heading]
            share = 0.5
            if use_field:
                inner, outer = field[inside_y, inside_x], field[outside_y, outside_x]
                if inner > level >= outer:
                    share = (inner - level) / (inner - outer)
                    share = min(max(share, CLOSEST_TO_CENTRE), 1 - CLOSEST_TO_CENTRE)
            if used == xy.shape[0]:
                grown = np.empty((2 * used, 2), np.float64)
                grown[:used] = xy
                xy = grown
            # -0.5: from the framed image's pixel corners (+0.5 to the centre, -1 for the frame).
            xy[used, 0] = inside_x - 0.5 + share * (outside_x - inside_x)
            xy[used, 1] = inside_y - 0.5 + share * (outside_y - inside_y)
            used += 1
            x += step_x[heading]
            y += step_y[heading]
            if parts[y + right_y[heading], x + right_x[heading]] != part:
                heading = (heading + 1) % 4
            elif parts[y + left_y[heading], x + left_x[heading]] == part:
                heading = (heading + 3) % 4
            if x == start_x and y == start_y and heading == 0:
                break
        offsets[k + 1] = used
    return xy[:used].copy(), offsets

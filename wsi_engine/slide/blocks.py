"""Putting a box together from blocks that are aligned to the level, not to the box."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from wsi_engine.slide.frames import LevelBox
from wsi_engine.slide.protocol import RGB


def assemble(
    box: LevelBox, width: int, height: int, read_block: Callable[[LevelBox], RGB | None]
) -> RGB:
    """Read a box by aligned blocks, so that no pixel depends on where the box starts.

    Parameters
    ----------
    box
        What is wanted, in pixels of one level.
    width, height
        Size of a block; blocks start at multiples of it.
    read_block
        Gives the pixels of one block, or ``None`` where it stays white.
    """
    image = np.full((box.height, box.width, 3), 255, np.uint8)
    for y in range(box.y // height * height, box.y + box.height, height):
        for x in range(box.x // width * width, box.x + box.width, width):
            block = read_block(LevelBox(x, y, width, height))
            if block is None:
                continue
            top, bottom = max(y, box.y), min(y + height, box.y + box.height)
            left, right = max(x, box.x), min(x + width, box.x + box.width)
            image[top - box.y : bottom - box.y, left - box.x : right - box.x] = block[
                top - y : bottom - y, left - x : right - x
            ]
    return image

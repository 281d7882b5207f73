"""Tiles through reading, inference and decoding, in parallel and in order.

Tiles travel in batches of consecutive tiles, so what shares a batch never depends on timing,
and results leave in scan order. Only a fixed number of batches is under way at once, counted
from the first read to the moment the result is taken: that bounds every queue and the reorder
buffer at once, whatever the size of the slide.
"""

from __future__ import annotations

import queue
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from itertools import islice
from typing import Any, TypeVar

import numpy as np

from wsi_engine.errors import EngineError, TileError
from wsi_engine.schedule.clock import StageClock
from wsi_engine.schedule.inference import Batch, Maps
from wsi_engine.schedule.tiles import Tile
from wsi_engine.slide.protocol import RGB

Result = TypeVar("Result")


def stream(
    tiles: Iterable[Tile],
    read: Callable[[Tile], RGB],
    infer: Sequence[Callable[[Batch], Maps]],
    decode: Callable[[Tile, RGB, Maps], Result],
    *,
    batch_size: int,
    workers: int,
    clock: StageClock,
) -> Generator[tuple[Tile, Result], None, None]:
    """Yield the result of each tile, in the order of ``tiles``.

    The first batches are under way when the call returns; the others follow as results are taken.

    Parameters
    ----------
    tiles
        What to process; taken lazily.
    read
        Gives the pixels of a tile; called by ``workers`` threads.
    infer
        One function per device; each is called by one thread at a time, always with
        ``batch_size`` tiles (the last batch is filled up with white).
    decode
        Turns the pixels and the maps of one tile into its result; called by ``workers`` threads.
    clock
        Takes the time of the stages ``read``, ``infer`` and ``decode``.

    Notes
    -----
    An error in any stage is raised here, and what is under way is abandoned. The same
    happens when the generator is closed; close it before what its functions use is closed.

    Raises
    ------
    TileError
        When a stage fails for a reason that it does not explain itself.
    """
    results = _stream(tiles, read, infer, decode, batch_size, workers, clock)
    next(results)
    return results


def _stream(
    tiles: Iterable[Tile],
    read: Callable[[Tile], RGB],
    infer: Sequence[Callable[[Batch], Maps]],
    decode: Callable[[Tile, RGB, Maps], Result],
    batch_size: int,
    workers: int,
    clock: StageClock,
) -> Generator[Any, None, None]:
    """Yield once when the first batches are under way, then the results."""

    def timed_read(tile: Tile) -> RGB:
        with clock.measure("read"), _naming("reading", tile):
            return read(tile)

    def timed_decode(tile: Tile, pixels: RGB, maps: Maps) -> Result:
        with clock.measure("decode"), _naming("decoding", tile):
            return decode(tile, pixels, maps)

    idle: queue.SimpleQueue[Callable[[Batch], Maps]] = queue.SimpleQueue()
    for device in infer:
        idle.put(device)

    def process(members: list[Tile], reads: list[Future[RGB]]) -> list[Future[Result]]:
        pixels = [future.result() for future in reads]
        batch = np.full((batch_size, *pixels[0].shape), 255, np.uint8)
        for slot, image in zip(batch, pixels, strict=False):
            slot[:] = image
        device = idle.get()
        try:
            with clock.measure("infer"), _naming("the model", *members):
                maps = device(batch)
        finally:
            idle.put(device)
        return [
            decoders.submit(timed_decode, tile, image, tile_maps)
            for tile, image, tile_maps in zip(members, pixels, maps, strict=False)
        ]

    most_under_way = len(infer) + 1 + -(-2 * workers // batch_size)
    under_way: deque[tuple[list[Tile], Future[list[Future[Result]]]]] = deque()
    supply = iter(tiles)
    readers = ThreadPoolExecutor(workers, "read")
    devices = ThreadPoolExecutor(len(infer), "infer")
    decoders = ThreadPoolExecutor(workers, "decode")

    def fill() -> None:
        while len(under_way) < most_under_way and (members := list(islice(supply, batch_size))):
            reads = [readers.submit(timed_read, tile) for tile in members]
            under_way.append((members, devices.submit(process, members, reads)))

    try:
        fill()
        yield
        while under_way:
            members, processed = under_way.popleft()
            for tile, result in zip(members, processed.result(), strict=True):
                yield tile, result.result()
            fill()
    finally:
        # All are told to stop before any is waited for: a device thread may wait for a reader.
        for executor in (devices, readers, decoders):
            executor.shutdown(wait=False, cancel_futures=True)
        for executor in (devices, readers, decoders):
            executor.shutdown(wait=True)


@contextmanager
def _naming(stage: str, *tiles: Tile) -> Iterator[None]:
    """Say at which tiles something unforeseen went wrong."""
    try:
        yield
    except EngineError:
        raise
    except Exception as error:
        first, last = tiles[0].index, tiles[-1].index
        where = f"tile {first}" if first == last else f"tiles {first} to {last}"
        raise TileError(
            f"{stage} failed at {where} ({type(error).__name__}: {error}): tiles finished before "
            "are kept, and the same command goes on there; --debug shows more"
        ) from error

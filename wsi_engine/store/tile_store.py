"""The tiles of a run on disk: written as they finish, read again when a run goes on."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from wsi_engine.closing import Closing
from wsi_engine.errors import BusyError, SlideChangedError
from wsi_engine.nuclei.nuclei import Nuclei
from wsi_engine.schedule.tiles import Tile
from wsi_engine.slide.frames import LevelBox
from wsi_engine.store.journal import Journal, PartRecord
from wsi_engine.store.parts import TileNuclei, read_part, write_part

JOURNAL = "journal.sqlite"
MOST_TILES_IN_PART = 64
MOST_NUCLEI_IN_PART = 10_000
LONGEST_UNSAVED_S = 10.0


class DamagedPartError(Exception):
    """A part is not what was written. The journal has forgotten it: open the store again."""


class TileStore(Closing):
    """Stores what tiles report, in a folder of its own; a context.

    Parts are checked when they are read, not before: a run goes on computing at once, however
    much it has stored.

    Parameters
    ----------
    folder
        Made if absent.
    tiles
        All tiles of the run, in scan order.
    basis
        Everything that the tiles depend on; what another basis left is not used.

    Attributes
    ----------
    finished_tiles
        How many tiles an earlier run left.
    lost
        What it could not read for them, in pixels of the level that was read.
    """

    def __init__(self, folder: Path, tiles: Sequence[Tile], basis: Mapping[str, Any]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._tiles = tiles
        self._journal = Journal(folder / JOURNAL, basis, len(tiles))
        self.lost = self._journal.lost
        self._parts: list[PartRecord] = []
        for part in self._journal.parts:
            if self._is_there(part):
                self._parts.append(part)
            else:
                self._journal.drop(part)
        self.finished_tiles = sum(part.tiles for part in self._parts)

    @property
    def missing(self) -> list[Tile]:
        """The tiles that are still to be computed, in scan order."""
        missing: list[Tile] = []
        position = 0
        for part in self._parts:
            missing += self._tiles[position : part.first]
            position = part.end
        return [*missing, *self._tiles[position:]]

    def complete(
        self,
        computed: Iterable[tuple[Tile, Nuclei]],
        lost: Callable[[], Collection[LevelBox]] = tuple,
    ) -> Iterator[tuple[Tile, Nuclei]]:
        """Yield all tiles in scan order: those stored, and those computed once they are stored.

        Parameters
        ----------
        computed
            What the ``missing`` tiles report, in their order. They are handed on as they come;
            at the latest after ten seconds they are durable.
        lost
            Says what could not be read so far; asked, and stored, with every part.

        Whatever ends it, what has come is stored first; but after a `BusyError` or a
        `SlideChangedError` nothing is written.

        Raises
        ------
        DamagedPartError
            At a stored part that is damaged.
        """
        supply, position = iter(computed), 0
        for part in self._parts:
            yield from self._keep(islice(supply, part.first - position), position, lost)
            yield from self._stored(part)
            position = part.end
        yield from self._keep(supply, position, lost)

    def close(self) -> None:
        """Close the journal."""
        self._journal.close()

    def _is_there(self, part: PartRecord) -> bool:
        try:
            return (self._folder / part.file).stat().st_size == part.bytes
        except OSError:
            return False

    def _keep(
        self,
        tiles: Iterable[tuple[Tile, Nuclei]],
        position: int,
        lost: Callable[[], Collection[LevelBox]],
    ) -> Iterator[tuple[Tile, Nuclei]]:
        unsaved: list[TileNuclei] = []
        nuclei, saved_at = 0, time.monotonic()
        try:
            for tile, found in tiles:
                unsaved.append((tile.index, found))
                nuclei += len(found)
                if (
                    len(unsaved) >= MOST_TILES_IN_PART
                    or nuclei >= MOST_NUCLEI_IN_PART
                    or time.monotonic() - saved_at > LONGEST_UNSAVED_S
                ):
                    full, unsaved = unsaved, []
                    self._save(full, position, lost())
                    position += len(full)
                    nuclei, saved_at = 0, time.monotonic()
                yield tile, found
        except (BusyError, SlideChangedError):
            unsaved = []  # the folder is another's by now, or the tiles are of two slides
            raise
        finally:
            # Also of a run that ends early.
            if unsaved:
                self._save(unsaved, position, lost())

    def _save(self, tiles: list[TileNuclei], first: int, lost: Collection[LevelBox]) -> None:
        count = sum(len(nuclei) for _, nuclei in tiles)
        part = PartRecord(first, len(tiles), count, 0, 0)
        size, crc32 = write_part(self._folder / part.file, tiles)
        self._journal.add(PartRecord(first, len(tiles), count, size, crc32), lost)

    def _stored(self, part: PartRecord) -> Iterator[tuple[Tile, Nuclei]]:
        tiles = self._tiles[part.first : part.end]
        try:
            stored = read_part(self._folder / part.file, part.bytes, part.crc32)
        except ValueError as error:
            raise self._damaged(part, str(error)) from None
        if [index for index, _ in stored] != [tile.index for tile in tiles]:
            raise self._damaged(part, "it holds other tiles")
        for tile, (_, nuclei) in zip(tiles, stored, strict=True):
            yield tile, nuclei

    def _damaged(self, part: PartRecord, how: str) -> DamagedPartError:
        self._journal.drop(part)
        return DamagedPartError(f"{self._folder / part.file} is damaged: {how}")

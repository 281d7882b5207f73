"""The tiles of a run on disk: written as they finish, read again when a run goes on.

Tiles finish in scan order, so what is stored is always a beginning of the run, and going on
means to replay it and compute the rest.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path

from wsi_engine.closing import Closing
from wsi_engine.errors import StoreError
from wsi_engine.nuclei.nuclei import Nuclei
from wsi_engine.schedule.tiles import Tile
from wsi_engine.store.journal import Journal, PartRecord
from wsi_engine.store.parts import TileNuclei, checksum, read_part, write_part

MOST_TILES_IN_PART = 64
MOST_NUCLEI_IN_PART = 10_000
LONGEST_UNSAVED_S = 10.0


class TileStore(Closing):
    """Stores what tiles report, in a folder of its own; a context.

    Parameters
    ----------
    folder
        Made if absent.
    fingerprint
        Of everything the tiles depend on; what another fingerprint left is not used.

    Attributes
    ----------
    finished_tiles
        How many tiles an earlier run left, all intact.
    """

    def __init__(self, folder: Path, fingerprint: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._journal = Journal(folder / "journal.sqlite", fingerprint)
        self._intact = self._intact_parts()
        self._next_number = len(self._intact)
        self.finished_tiles = sum(part.tiles for part in self._intact)

    def replay(self, tiles: Iterable[Tile]) -> Iterator[tuple[Tile, Nuclei]]:
        """Yield what an earlier run found on the first of these tiles, in scan order."""
        stored = chain.from_iterable(read_part(self._folder / part.file) for part in self._intact)
        for tile, (index, nuclei) in zip(tiles, stored, strict=False):
            if tile.index != index:
                raise StoreError(
                    f"{self._folder}: tile {index} is stored where {tile.index} belongs"
                )
            yield tile, nuclei

    def keep(self, tiles: Iterable[tuple[Tile, Nuclei]]) -> Iterator[tuple[Tile, Nuclei]]:
        """Pass tiles on once they are stored.

        Tiles are handed on as they come; at the latest after ten seconds they are durable.
        """
        unsaved: list[TileNuclei] = []
        nuclei, saved_at = 0, time.monotonic()
        for tile, found in tiles:
            unsaved.append((tile.index, found))
            nuclei += len(found)
            if (
                len(unsaved) >= MOST_TILES_IN_PART
                or nuclei >= MOST_NUCLEI_IN_PART
                or time.monotonic() - saved_at > LONGEST_UNSAVED_S
            ):
                self._save(unsaved)
                unsaved, nuclei, saved_at = [], 0, time.monotonic()
            yield tile, found
        if unsaved:
            self._save(unsaved)

    def close(self) -> None:
        """Close the journal."""
        self._journal.close()

    def _save(self, tiles: list[TileNuclei]) -> None:
        file = f"part-{self._next_number:06d}.arrow"
        crc32 = write_part(self._folder / file, tiles)
        count = sum(len(nuclei) for _, nuclei in tiles)
        self._journal.add(PartRecord(self._next_number, file, len(tiles), count, crc32))
        self._next_number += 1

    def _intact_parts(self) -> list[PartRecord]:
        intact = []
        for part in self._journal.parts():
            path = self._folder / part.file
            if not path.exists() or checksum(path) != part.crc32:
                self._journal.drop_from(part.number)
                break
            intact.append(part)
        return intact

"""The folder of one slide's results: every file whole, or not there."""

from __future__ import annotations

import os
import shutil
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

from wsi_engine.digests import digest_of
from wsi_engine.errors import BusyError, OutputError, ResultError
from wsi_engine.results.facts import FileFacts
from wsi_engine.results.layout import (
    CORRECTIONS,
    GROWING,
    READY,
    RECORD,
    TILES,
    WORK,
    Name,
    files_called,
)
from wsi_engine.results.publication import Publication
from wsi_engine.results.record import Record, read_record
from wsi_engine.store.claim import STALE_S, Claim, owner
from wsi_engine.store.tile_store import JOURNAL
from wsi_engine.writing import clear_write_errors

R = TypeVar("R", bound=Record)


class ResultFolder:
    """``OUT/<slide>/`` and the names in it, for one process at a time; a context.

    Files grow in ``.work`` and move to their names when all are whole; ``run.json`` comes last,
    so a folder that has it is complete. What another process was cut off in moving is moved on
    entering. When a run fails, what tiles reported stays in ``.work/tiles``, from where the next
    run goes on; nothing else is left.

    Attributes
    ----------
    path
        The folder.
    growing
        Where files grow.
    tiles
        Where tiles are stored.

    Raises
    ------
    BusyError
        On entering, when another process works there.
    OutputError
        When nothing can be written there, or the name would lead out of the output folder.
    """

    def __init__(self, output: Path, slide_name: str) -> None:
        if slide_name in {"", ".", ".."} or Path(slide_name).name != slide_name:
            raise OutputError(f"a slide cannot be called {slide_name!r}: give its file a name")
        self.path = output / slide_name
        self._work = self.path / WORK
        self.tiles = self.path / TILES
        self.growing = self._work / GROWING
        self._publication = Publication(self.path, self._work, RECORD)

    @classmethod
    def of_result(cls, folder: Path) -> Self:
        """Return the folder of a finished result, to be entered.

        Raises
        ------
        ResultError
            When it holds none.
        """
        if not has_result(folder):
            read_record(folder)  # says best what is wrong
        if folder.name in {"", ".."}:
            folder = Path(os.path.abspath(folder))  # noqa: PTH100 - of a link itself
        return cls(folder.parent, folder.name)

    def __enter__(self) -> Self:
        with clear_write_errors(self.path):
            claim = Claim.take(self._work)
            if claim is None:
                raise BusyError(_who_is_in(self.path))
            self._claim = claim
            try:
                self._publication.complete()
                self._publication.begin()
            except (OSError, ResultError):
                self._leave()
                raise
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._leave()

    def _leave(self) -> None:
        if self._claim.is_held:
            self._publication.drop()
            if not any(self.tiles.glob("part-*.arrow")):
                self.forget_tiles()
        with suppress(OSError):
            self._claim.close()
            # No more than is empty: the next may be there already.
            self._work.rmdir()
            self.path.rmdir()

    @contextmanager
    def growing_anew(self, *names: Name) -> Iterator[Path]:
        """Give an empty folder whose files take the place of those that have grown.

        Parameters
        ----------
        names
            Names of files that go, even if none has grown in their place.
        """
        anew = self.growing / "anew"
        anew.mkdir()
        try:
            yield anew
            for stale in files_called(self.growing, *names):
                stale.unlink()
            for file in anew.iterdir():
                file.replace(self.growing / file.name)
        finally:
            shutil.rmtree(anew, ignore_errors=True)

    @contextmanager
    def adding(self, *replaced: Name) -> Iterator[Path]:
        """Give an empty folder whose files join the finished result when the block succeeds.

        Parameters
        ----------
        replaced
            Names whose earlier files go, even if none comes in their place.
        """
        self._publication.begin()
        yield self.growing
        self.publish(read_record(self.path), replaced)

    def check_held(self) -> None:
        """Raise `BusyError` if another process has taken the folder over."""
        if not self._claim.is_held:
            raise BusyError(
                f"{self.path} was taken over by another process, as this one had not been heard "
                "of for minutes: it goes on there"
            )

    def publish(self, record: R, replaced: Sequence[Name]) -> R:
        """Move the grown files to their names, and write the record.

        Parameters
        ----------
        record
            Record of the result.
        replaced
            Names whose earlier files go, even if none has grown in their place.

        Returns
        -------
        Record
            What was written: ``files`` has size and checksum of each.
        """
        grown = {file.name: describe_file(file) for file in sorted(self.growing.iterdir())}
        stale = {file.name for file in files_called(self.path, *replaced)} - grown.keys()
        record = record.with_files(self._files_but(stale) | grown)
        self._publication.grow(record.text(), stale)
        self._claim.refresh()
        self.check_held()
        self._publication.publish()
        return record

    def _files_but(self, stale: Collection[str]) -> dict[str, FileFacts]:
        """Describe the files of the earlier record that stay.

        They are as it has them, but for corrections: a person may exchange those.
        """
        try:
            files = read_record(self.path).files
        except ResultError:
            files = {}
        if (self.path / CORRECTIONS).is_file():
            files = files | {CORRECTIONS: describe_file(self.path / CORRECTIONS)}
        return {
            name: entry
            for name, entry in files.items()
            if name not in stale and (self.path / name).exists()
        }

    def forget_tiles(self) -> None:
        """Remove what tiles reported: nobody needs it any more."""
        with clear_write_errors(self.path):
            # Without their journal, parts that a crash leaves here are scraps.
            (self.tiles / JOURNAL).unlink(missing_ok=True)
        shutil.rmtree(self.tiles, ignore_errors=True)


def has_result(folder: Path) -> bool:
    """Whether a folder holds a finished result, be it that its files are still on their way."""
    return (folder / RECORD).is_file() or is_interrupted(folder)


def is_interrupted(folder: Path) -> bool:
    """Whether a finished result is on its way to its names; whoever enters completes it."""
    return (folder / WORK / READY / RECORD).is_file()


def describe_file(path: Path) -> FileFacts:
    """Return what a record keeps of a file."""
    return FileFacts(bytes=path.stat().st_size, sha256=digest_of(path))


def _who_is_in(folder: Path) -> str:
    who = owner(folder / WORK)
    by = f" (process {who.pid} on {who.host})" if who is not None else ""
    return (
        f"another process works on {folder}{by}: let it finish; if it is dead and was on another "
        f"machine, wait {STALE_S / 60:g} minutes"
    )

"""The folder of one slide's results: every file whole, or not there."""

from __future__ import annotations

import json
import shutil
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from wsi_engine.digests import digest_of
from wsi_engine.errors import BusyError, OutputError
from wsi_engine.results.layout import CORRECTIONS, RECORD, TILES, WORK, Name, files_called
from wsi_engine.store.claim import STALE_S, Claim, owner
from wsi_engine.store.tile_store import JOURNAL
from wsi_engine.writing import clear_write_errors, sync


class ResultFolder:
    """``OUT/<slide>/`` and the names in it, for one process at a time; a context.

    Files grow in ``.work`` and move to their names when all are whole; ``run.json`` comes last,
    so a folder that has it is complete. When the run fails, what tiles reported stays in
    ``.work/tiles``, from where the next run goes on; nothing else is left.

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
        self.growing = self._work / "growing"

    def __enter__(self) -> Self:
        with clear_write_errors(self.path):
            claim = Claim.take(self._work)
            if claim is None:
                raise BusyError(_who_is_in(self.path))
            self._claim = claim
            try:
                shutil.rmtree(self.growing, ignore_errors=True)
                self.growing.mkdir(parents=True)
                probe = self.growing / "probe"
                probe.write_bytes(b"\0")
                probe.unlink()
            except OSError:
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
            shutil.rmtree(self.growing, ignore_errors=True)
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

    def check_held(self) -> None:
        """Raise `BusyError` if another process has taken the folder over."""
        if not self._claim.is_held:
            raise BusyError(
                f"{self.path} was taken over by another process, as this one had not been heard "
                "of for minutes: it goes on there"
            )

    def publish(self, record: dict[str, Any], replaced: Sequence[Name]) -> None:
        """Move the grown files to their names, and write the record.

        Parameters
        ----------
        record
            Content of ``run.json``; ``files`` is added, with size and checksum of each.
        replaced
            Names whose earlier files go, even if none has grown in their place.
        """
        grown = {file.name: describe_file(file) for file in sorted(self.growing.iterdir())}
        earlier = {file.name for file in files_called(self.path, *replaced)}
        stale = earlier - grown.keys()
        record["files"] = self._files_but(stale) | grown
        text = json.dumps(record, indent=2, ensure_ascii=False)
        (self.growing / RECORD).write_text(text, encoding="utf-8")
        for name in (*grown, RECORD):
            sync(self.growing / name)
        self._claim.refresh()
        self.check_held()
        # From here on nothing needs room on the disk. Corrections are first: whenever this is
        # cut off after that, a new run makes them.
        (self.path / RECORD).unlink(missing_ok=True)
        sync(self.path)
        for name in sorted({*grown, *stale}, key=lambda name: (name != CORRECTIONS, name)):
            if name in stale:
                (self.path / name).unlink()
            else:
                (self.growing / name).replace(self.path / name)
        sync(self.path)
        (self.growing / RECORD).replace(self.path / RECORD)
        sync(self.path)

    def _files_but(self, stale: Collection[str]) -> dict[str, Any]:
        """Describe the files of the earlier record that stay.

        They are as it has them, but for corrections: a person may exchange those.
        """
        files = self._published_files()
        if (self.path / CORRECTIONS).is_file():
            files[CORRECTIONS] = describe_file(self.path / CORRECTIONS)
        return {
            name: entry
            for name, entry in files.items()
            if name not in stale and (self.path / name).exists()
        }

    def _published_files(self) -> dict[str, Any]:
        try:
            earlier = json.loads((self.path / RECORD).read_bytes())["files"]
            return {str(name): entry for name, entry in earlier.items()}
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return {}

    def forget_tiles(self) -> None:
        """Remove what tiles reported: nobody needs it any more."""
        with clear_write_errors(self.path):
            # Without their journal, parts that a crash leaves here are scraps.
            (self.tiles / JOURNAL).unlink(missing_ok=True)
        shutil.rmtree(self.tiles, ignore_errors=True)


def describe_file(path: Path) -> dict[str, int | str]:
    """Return what `run.json` keeps of a file: its bytes and sha256."""
    return {"bytes": path.stat().st_size, "sha256": digest_of(path)}


def _who_is_in(folder: Path) -> str:
    who = owner(folder / WORK)
    by = f" (process {who.pid} on {who.host})" if who is not None else ""
    return (
        f"another process works on {folder}{by}: let it finish; if it is dead and was on another "
        f"machine, wait {STALE_S / 60:g} minutes"
    )

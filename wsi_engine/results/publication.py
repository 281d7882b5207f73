"""Files that come into a folder together: all of them or none, whenever the power goes."""

from __future__ import annotations

import json
import shutil
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from wsi_engine.errors import ResultError
from wsi_engine.results.layout import GROWING, READY, REMOVED
from wsi_engine.writing import sync


@dataclass(frozen=True)
class Publication:
    """Where files grow, and how they come to their names; for the owner of the folder.

    Files grow in ``growing``. When all are on disk with their record, and a list of those that
    go, the folder is renamed to ``ready``: that is the moment at which the new files count. From
    then on they are moved one by one, the record last; whoever is killed in between has the rest
    moved by the next owner, with `complete`. A folder that has its record is always as the
    record says: the old one goes before the first file is moved.

    Attributes
    ----------
    folder
        That gets the files.
    work
        On the same disk, for files on their way.
    record
        Name of the record.
    """

    folder: Path
    work: Path
    record: str

    @property
    def growing(self) -> Path:
        """Folder of the files that are being written."""
        return self.work / GROWING

    @property
    def ready(self) -> Path:
        """Folder of those that are whole."""
        return self.work / READY

    def begin(self) -> None:
        """Give an empty folder to grow in, in which can be written."""
        self.drop()
        self.growing.mkdir(parents=True)
        probe = self.growing / "probe"
        probe.write_bytes(b"\0")
        probe.unlink()

    def drop(self) -> None:
        """Forget what has grown."""
        shutil.rmtree(self.growing, ignore_errors=True)

    def grow(self, record: str, removed: Collection[str]) -> None:
        """Write record and list beside what has grown, and all of it to disk.

        Nothing after it needs room.
        """
        (self.growing / self.record).write_text(record, encoding="utf-8")
        (self.growing / REMOVED).write_text(json.dumps(sorted(removed)), encoding="utf-8")
        for file in self.growing.iterdir():
            sync(file)
        sync(self.growing)

    def publish(self) -> None:
        """Let what has grown count, and move it to its names."""
        self.growing.rename(self.ready)
        sync(self.work)
        self.complete()

    def complete(self) -> None:
        """Move to their names what is ready, wherever that was cut off; nothing if all is done.

        Raises
        ------
        ResultError
            When it does not say which files go.
        """
        if (self.ready / self.record).exists():
            removed = self._removed()
            (self.folder / self.record).unlink(missing_ok=True)
            sync(self.folder)
            for name in removed:
                (self.folder / name).unlink(missing_ok=True)
            for file in sorted(self.ready.iterdir()):
                if file.name not in (self.record, REMOVED):
                    file.replace(self.folder / file.name)
            sync(self.folder)
            (self.ready / self.record).replace(self.folder / self.record)
            sync(self.folder)
        shutil.rmtree(self.ready, ignore_errors=True)

    def _removed(self) -> list[str]:
        path = self.ready / REMOVED
        try:
            names = json.loads(path.read_bytes())
            if isinstance(names, list) and all(_is_of_a_file(name) for name in names):
                return names
            problem = "it leads out of the folder"
        except (OSError, ValueError, TypeError, RecursionError) as error:
            problem = str(error)
        raise ResultError(
            f"{path} cannot be read ({problem}): remove {self.ready}, and run the slide again"
        )


def _is_of_a_file(name: str) -> bool:
    return name not in {"", ".", ".."} and Path(name).name == name

"""What an earlier run left in the folder of a slide, and whether this run may build on it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from wsi_engine.config import RunSettings
from wsi_engine.digests import digest_of
from wsi_engine.engine.basis import (
    CLASSES,
    MACHINE,
    Basis,
    basis_of,
    basis_of_classes,
    basis_of_settings,
    differences,
    with_later_settings,
)
from wsi_engine.engine.summaries import has_summaries
from wsi_engine.errors import ResultError, SettingsError
from wsi_engine.results.facts import FileFacts
from wsi_engine.results.layout import CORRECTIONS, RECORD, SUMMARY_FILES, TILES
from wsi_engine.results.record import RunRecord, read_record
from wsi_engine.store.journal import Entries, JournalDamagedError, read_journal
from wsi_engine.store.tile_store import JOURNAL


def unfinished_run(folder: Path) -> Entries | None:
    """Return what an unfinished run left, as its journal has it.

    To be called by the owner of the folder: the journal is brought in order first. A damaged
    one counts as none.
    """
    try:
        entries = read_journal(folder / TILES / JOURNAL, mend=True)
    except JournalDamagedError:
        return None
    return entries if entries is not None and entries.finished_tiles else None


def restart_reason(unfinished: Entries, asked: Basis, basis: Basis) -> str | None:
    """Say why tiles have to be computed again though the same is asked for.

    Parameters
    ----------
    unfinished
        What the run left.
    asked, basis
        What is wanted now, as `basis_of` and `basis_of_tiles` tell it.

    Returns
    -------
    str or None
        A sentence if they were computed with other arithmetic or versions; ``None`` if they can
        be built on, or something else was asked for.
    """
    was, now = (
        {name: told[name] for name in MACHINE if name in told} for told in (unfinished.basis, basis)
    )
    changes = differences(was, now, whole=True)
    if not changes or differences(unfinished.basis, asked):
        return None
    return (
        f"{unfinished.finished_tiles} tiles of an unfinished run were computed again, as they were "
        f"computed with {'; '.join(changes)}"
    )


def finished_run(folder: Path, basis: Basis) -> RunRecord | None:
    """Return the record of a finished run on the same basis; ``None`` if there is none.

    Classes count as they are in the result now, whoever gave them; a basis without any takes
    those that are there.

    Raises
    ------
    SettingsError
        When there is one on another basis.
    ResultError
        When its record cannot be read, `measure` wrote it, or its files are not those that it
        wrote.
    """
    if not (folder / RECORD).exists():
        return None
    try:
        record = read_record(folder)
    except ResultError as error:
        raise ResultError(f"{error}, or choose another --output") from None
    if not isinstance(record, RunRecord):
        raise ResultError(
            f"{folder} holds nuclei of another program that `wsi-engine measure` measured: choose "
            "another --output, or replace them with --force"
        )
    _require_same_result(record, basis, f"{folder} holds a finished result")
    if _corrections_changed(folder, record):
        return None
    for name, entry in record.files.items():
        # What tells of a result is written again where it is missing.
        if name not in (CORRECTIONS, *SUMMARY_FILES) and not _has_size(folder, name, entry):
            raise ResultError(
                f"{folder} holds a finished result, but {name} is not as it was written: keep "
                "what is yours, and start again with --force"
            )
    return record


def is_up_to_date(folder: Path, slide: Path | None, settings: RunSettings) -> RunRecord | None:
    """Return the record of a result with which a run would do nothing; ``None`` if there is none.

    The same run is finished, nothing of a run that was to replace it is left, and the regions
    and the page are there if they are wanted. Looks, and changes nothing.

    Parameters
    ----------
    folder
        Folder of the result.
    slide
        The slide, of whose content 3 MB are read; ``None`` where it is not at hand.
    settings
        Settings of the run that is asked for.

    Raises
    ------
    SettingsError, ResultError
        When `finished_run` raises it: a run would refuse to touch what is there.
    """
    if (folder / TILES).exists() or not (folder / RECORD).exists():
        return None
    try:
        basis = basis_of_settings(settings) if slide is None else basis_of(slide, settings)
    except OSError:
        return None  # whoever opens the slide says so better
    record = finished_run(folder, basis)
    if record is None:
        return None
    complete = has_summaries(folder, record, regions=settings.regions, report=settings.report)
    return record if complete else None


def require_same_basis(
    was: Mapping[str, Any], now: Basis, what: str, *, whole: bool = False
) -> None:
    """Raise `SettingsError`, which shows the difference, if a run would not be the same.

    With ``whole``, as in `differences`, the store would not take the tiles either.
    """
    if changes := differences(was, now, whole=whole):
        raise SettingsError(
            f"{what} with {'; '.join(changes)}: start again with --force, or choose another "
            "--output"
        )


def _require_same_result(record: RunRecord, asked: Basis, what: str) -> None:
    """Raise `SettingsError` if the nuclei, or classes that are asked for, would not be the same."""
    was = with_later_settings(record.basis) | basis_of_classes(record)
    require_same_basis(was, {name: asked[name] for name in asked if name not in CLASSES}, what)
    classes = {name: asked[name] for name in CLASSES if asked.get(name) is not None}
    if changes := differences(was, classes):
        raise SettingsError(
            f"{what} with {'; '.join(changes)}: give it other classes with `wsi-engine classify`, "
            "or choose another --output"
        )


def _corrections_changed(folder: Path, record: RunRecord) -> bool:
    path = folder / CORRECTIONS
    there = digest_of(path) if path.exists() else None
    return there != (record.corrections.sha256 if record.corrections is not None else None)


def _has_size(folder: Path, name: str, entry: FileFacts) -> bool:
    path = folder / name
    return path.parent == folder and path.is_file() and path.stat().st_size == entry.bytes

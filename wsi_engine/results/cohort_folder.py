"""The files of a cohort, in the folder of all results: whole, with a record of their own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from wsi_engine.errors import BusyError, ResultError
from wsi_engine.results.facts import FileFacts
from wsi_engine.results.folder import describe_file
from wsi_engine.results.layout import COHORT_RECORD, COHORT_WORK
from wsi_engine.results.publication import Publication
from wsi_engine.results.record import WrittenFiles, load_written_files
from wsi_engine.store.claim import Claim
from wsi_engine.writing import clear_write_errors


@contextmanager
def growing_cohort(output: Path) -> Iterator[Path]:
    """Give an empty folder whose files become those of the cohort when the block succeeds.

    Parameters
    ----------
    output
        Folder of results, for one process at a time.

    Raises
    ------
    BusyError
        When another process writes a cohort there.
    OutputError
        When nothing can be written there.
    """
    work = output / COHORT_WORK
    publication = Publication(output, work, COHORT_RECORD)
    with clear_write_errors(output):
        claim = Claim.take(work)
        if claim is None:
            raise BusyError(f"another process writes the cohort of {output}: let it finish")
        try:
            publication.complete()
            publication.begin()
            yield publication.growing
            _publish(publication)
        finally:
            if claim.is_held:
                publication.drop()
            with suppress(OSError):
                claim.close()
                work.rmdir()


def _publish(publication: Publication) -> None:
    files = {file.name: describe_file(file) for file in sorted(publication.growing.iterdir())}
    with suppress(ResultError, FileNotFoundError):
        files = _still_there(publication.folder) | files
    publication.grow(WrittenFiles(files=files).text(), ())
    publication.publish()


def _still_there(output: Path) -> dict[str, FileFacts]:
    """Describe the files of an earlier record that are there, as it has them."""
    files = load_written_files(output / COHORT_RECORD).files
    return {name: entry for name, entry in files.items() if (output / name).is_file()}

"""Taking a file that was corrected in QuPath into the result that it came from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from wsi_engine.corrections.changes import find_changes, refuse_unreadable
from wsi_engine.corrections.record import Corrections, corrections_for
from wsi_engine.corrections.selection import NucleusSelection
from wsi_engine.corrections.sources import object_files, objects_of
from wsi_engine.digests import digest_of
from wsi_engine.engine.classify import classes_of, recorded, rewrite
from wsi_engine.engine.provenance import now
from wsi_engine.engine.summaries import write_summaries
from wsi_engine.errors import CorrectionsError
from wsi_engine.nuclei.positivity import Positivity
from wsi_engine.qupath.problems import Problem
from wsi_engine.results.folder import ResultFolder, has_result
from wsi_engine.results.layout import (
    CLASSIFIER_FILES,
    CORRECTIONS,
    NUCLEI_FILES,
    NUCLEI_TABLE,
    REPORT_FILE,
)
from wsi_engine.results.nucleus_table import GeoParquetReader
from wsi_engine.results.record import RunRecord, read_record
from wsi_engine.writing import clear_write_errors

MOST_MISSING = 0.5
"""Share of the nuclei that a file may lack before someone has to say that they shall go."""


@dataclass(frozen=True)
class Applied:
    """The outcome of applying a corrected file.

    Attributes
    ----------
    deleted, edited, added
        Number of nuclei that differed from the result before.
    corrections
        All corrections that there are now.
    nuclei
        Number of nuclei in the result now.
    left_out
        Number of objects of the file that are no nuclei, by type or reason.
    duplicates
        Objects passed over because an earlier one has their id.
    by_place
        Nuclei of an unknown id that were known by their place, as after QuPath's "Update IDs".
    overlapping
        Nuclei passed over because another one lies in their place.
    checked
        Number of areas in the file in which everything was looked at.
    earlier_thresholds
        Thresholds that the result had before, where the file has its intensities from these.
    """

    deleted: int
    edited: int
    added: int
    corrections: Corrections
    nuclei: int
    left_out: Counter[str]
    duplicates: int
    by_place: int
    overlapping: int
    checked: int = 0
    earlier_thresholds: Positivity | None = None


def apply_corrections(
    edited: str | Path,
    folder: str | Path,
    *,
    partial: bool = False,
    yes: bool = False,
    drawn_class: Sequence[str] = (),
) -> Applied:
    """Take a file that was corrected in QuPath into the result of its slide.

    The corrections are kept in ``corrections.geojson.gz`` beside the result, and every later
    run into this folder makes them again. Nothing changes if the file holds nothing new.

    Parameters
    ----------
    edited
        GeoJSON that QuPath exported, or a folder of such files.
    folder
        ``OUT/<slide>``, as `run` wrote it.
    partial
        The file holds only some of the nuclei: those it lacks stay.
    yes
        Delete the nuclei that the file lacks, even if they are more than half.
    drawn_class
        Classes of annotations to be taken for nuclei that were drawn by hand.

    Returns
    -------
    Applied
        Number of nuclei that were deleted, edited and added, and of those there are now.

    Raises
    ------
    CorrectionsError
        When the folder holds no result of a run, or the file lacks more than half of the nuclei.
    GeoJSONError
        When the file cannot be read.
    BusyError
        When another process works in the folder.
    OutputError
        When the result cannot be written.

    Examples
    --------
    >>> import wsi_engine as we
    >>> nuclei = we.read_objects("results/slide/nuclei.geojson.gz")
    >>> _ = we.write_objects("corrected.geojson", nuclei[5:])  # as if five were deleted in QuPath
    >>> applied = we.apply_corrections("corrected.geojson", "results/slide")
    >>> applied.deleted, applied.nuclei == len(nuclei) - 5
    (5, True)
    """
    edited, folder = Path(edited), Path(folder).resolve()
    if not has_result(folder):
        raise CorrectionsError(
            f"{folder} holds no finished result: give the folder OUT/<slide> of a run"
        )
    # What is read here decides what is written: nobody may change it in between.
    with ResultFolder(folder.parent, folder.name) as result:
        return _apply(edited, result, partial=partial, yes=yes, drawn_class=drawn_class)


def _apply(
    edited: Path, result: ResultFolder, *, partial: bool, yes: bool, drawn_class: Sequence[str]
) -> Applied:
    folder = result.path
    record, had_page = read_record(folder), (folder / REPORT_FILE).exists()
    if not isinstance(record, RunRecord):
        raise CorrectionsError(
            f"{folder} is a result of `wsi-engine measure`, and these take no corrections: correct "
            "the nuclei in QuPath, and measure them again"
        )
    if not record.nuclei.area_mm2 > 0:
        raise CorrectionsError(f"{folder}: nuclei on no area: run the slide again")
    with GeoParquetReader(folder / NUCLEI_TABLE) as table:
        earlier = corrections_for(folder, record.slide.fingerprint, record.model.name)
        selection = NucleusSelection(drawn_class)
        problems: list[Problem] = []
        thresholds = _thresholds(record)
        changes = find_changes(
            objects_of(edited, problems),
            selection,
            table,
            earlier,
            thresholds,
            record.model.class_colours,
            first_pass=lambda: objects_of(edited, quietly=True),
        )
        lacking = () if partial else changes.lacking
        if not partial:
            refuse_unreadable(problems)
        if not yes and len(lacking) > MOST_MISSING * len(table):
            raise CorrectionsError(
                f"{edited.name} lacks {len(lacking):,} of the {len(table):,} nuclei of "
                f"{folder.name}, and so would delete them: give --partial if it is an export of "
                "some of them, or --yes if they shall go"
            )
        nuclei = len(table)
    checked = [*(earlier.checked if partial else ()), *selection.checked]
    corrections = earlier.followed_by(
        lacking,
        changes.edited,
        changes.added,
        outlines=changes.outlines,
        checked=list(dict.fromkeys(checked)),
    )
    if corrections != earlier:
        corrections = replace(corrections, applied=(*earlier.applied, *_digests(edited)))
        nuclei = _rewrite(earlier, corrections, result, record)
    # Also where nothing is new: this may have been cut off before.
    write_summaries(result, regions=False, report=had_page or record.settings.report)
    return Applied(
        deleted=len(lacking),
        edited=len(changes.edited),
        added=len(changes.added),
        corrections=corrections,
        nuclei=nuclei,
        left_out=selection.left_out,
        duplicates=changes.duplicates,
        by_place=changes.by_place,
        overlapping=changes.overlapping,
        checked=len(selection.checked),
        earlier_thresholds=None if changes.thresholds in thresholds[:1] else changes.thresholds,
    )


def _thresholds(record: RunRecord) -> list[Positivity]:
    """Return the thresholds of a result, and then those that it had before."""
    told = record.positivity
    if told is None:
        return []
    return [one.rule for one in (told, *told.earlier)]


def _digests(edited: Path) -> list[tuple[str, str]]:
    return [(file.name, digest_of(file)) for file in object_files(edited)]


def _rewrite(
    earlier: Corrections, corrections: Corrections, result: ResultFolder, record: RunRecord
) -> int:
    """Write the result anew with its corrections; return the number of nuclei."""
    folder = result.path
    # New outlines are classified, too, and those that were corrected without a class.
    classes, intensities = classes_of(folder, record, corrections)
    with clear_write_errors(folder):
        count = rewrite(result, record, corrections, classes, intensities, drawn=earlier.added)
        if corrections:
            corrections.write(result.growing / CORRECTIONS)
        density = round(count / record.nuclei.area_mm2, 2)
        found = {"count": count, "density_per_mm2": density}
        changes = {
            "nuclei": record.nuclei.model_copy(update=found),
            "corrections": corrections.summary(result.growing / CORRECTIONS, now()),
        }
        record = record.model_copy(update=changes)
        record = recorded(record, classes, intensities, result.growing, record.positivity)
        # The slide is the same, so what the page's other files say of its pixels stays.
        result.publish(record, replaced=[NUCLEI_FILES, *CLASSIFIER_FILES, CORRECTIONS, REPORT_FILE])
    return count

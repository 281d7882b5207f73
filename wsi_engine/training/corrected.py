"""Fields that are cut from results that a person has corrected."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from wsi_engine.corrections.record import Corrections, read_corrections
from wsi_engine.errors import DatasetError
from wsi_engine.results.finished import SlideResult, finished_results
from wsi_engine.results.folder import has_result
from wsi_engine.slide.fingerprint import fingerprint
from wsi_engine.slide.grid_reader import GridReader
from wsi_engine.slide.opening import open_slide
from wsi_engine.slide.whole_pixels import make_model_grid
from wsi_engine.training.classes import ClassIndex
from wsi_engine.training.config import CorrectionsDataConfig, SplitConfig
from wsi_engine.training.corrected_area import CorrectedArea
from wsi_engine.training.fields import Field, make_field
from wsi_engine.training.slides import FINEST_TRAINING_MPP

log = logging.getLogger(__name__)

# From so many slides on some are held out whole; of fewer, blocks.
_FEWEST_SLIDES = 5
_HELD_OUT_OF = 5


def corrected_results(paths: Sequence[Path]) -> list[tuple[Path, Corrections]]:
    """Find the results that a person has corrected, with the corrections.

    Parameters
    ----------
    paths
        Folders ``OUT/<slide>``, or ``OUT``. What else lies in ``OUT`` is passed over.

    Raises
    ------
    DatasetError
        If a path does not exist, or no result in them was corrected.
    """
    folders: list[Path] = []
    for path in paths:
        if not path.exists():
            raise DatasetError(f"{path} does not exist: give folders OUT/<slide> of finished runs")
        if path.is_dir():
            folders += [path] if has_result(path) else finished_results(path)
    given = ", ".join(map(str, paths))
    if not folders:
        raise DatasetError(f"{given} holds no result: give folders OUT/<slide> of finished runs")
    read = [(folder, read_corrections(folder)) for folder in dict.fromkeys(folders)]
    corrected = [(folder, corrections) for folder, corrections in read if corrections]
    if not corrected:
        raise DatasetError(
            f"no result in {given} was corrected: "
            "correct nuclei in QuPath, take them in with `wsi-engine apply`, then train"
        )
    return corrected


def fields_of_results(config: CorrectionsDataConfig, index: ClassIndex) -> list[Field]:
    """Cut the fields of a set; their groups are the names of the results.

    Two results of one slide are one group.

    Raises
    ------
    DatasetError, SlideError, ResultError
        If nothing was corrected; a slide has moved or changed; a result cannot be read.
    """
    fields: list[Field] = []
    groups: dict[str, str] = {}
    for folder, corrections in corrected_results(config.results):
        result = SlideResult(folder)
        group = groups.setdefault(result.record.slide.fingerprint, result.name)
        fields += _cut(result, corrections, config, index, group)
    return fields


def _cut(
    result: SlideResult,
    corrections: Corrections,
    config: CorrectionsDataConfig,
    index: ClassIndex,
    group: str,
) -> Iterator[Field]:
    """Yield the fields of one result, one at a time."""
    path = _slide_of(result, config.slides)
    with result.table, open_slide(path) as slide:
        info = replace(slide.info, mpp=result.mpp)
        reader = GridReader(slide, make_model_grid(info, max(FINEST_TRAINING_MPP, result.mpp.mean)))
        for block in CorrectedArea(result, corrections, reader.grid).blocks():
            lost = reader.lost
            image = reader.read(block.box)
            name = f"{result.name} ({block.place[0]}, {block.place[1]})"
            if reader.lost != lost:
                log.warning("%s is damaged in %s, from which nothing is learnt", path.name, name)
                continue
            classes = index.by_label(block.classes.tolist(), result.folder)
            yield make_field(name, group, image, block.labels, classes, mpp=reader.grid.mpp)


def _slide_of(result: SlideResult, slides: Path | None) -> Path:
    """Return the slide of a result, which must be what it was."""
    path = Path(result.record.slide_path)
    if slides is not None and (slides / path.name).exists():
        path = slides / path.name
    if not path.exists():
        raise DatasetError(
            f"the slide of {result.folder} is not at {path}: say in which folder it is now "
            "(--slides FOLDER, or slides in the set)"
        )
    if fingerprint(path) != result.record.slide.fingerprint:
        raise DatasetError(
            f"{path} is not the slide that {result.folder} was made from, for its content is "
            "another: give the folder of that slide (--slides), or run and correct this one"
        )
    return path


def held_out_fifth(fields: Sequence[Field]) -> tuple[list[Field], SplitConfig]:
    """Hold out every fifth slide, or block where there are few slides, by number of nuclei.

    Returns
    -------
    fields, split
        Fields in the groups that the split is about.

    Raises
    ------
    DatasetError
        If all nuclei that count lie in one block.
    """
    slides = _nuclei_by([field.group for field in fields], fields)
    if sum(count > 0 for count in slides.values()) >= _FEWEST_SLIDES:
        units, fields = slides, list(fields)
    else:
        fields = [
            replace(field, group=f"{field.group} ({field.name.rpartition(' (')[2]}")
            for field in fields
        ]
        units = _nuclei_by([field.group for field in fields], fields)
    order = sorted(units, key=lambda unit: (-units[unit], unit))
    held_out = order[1::_HELD_OUT_OF]
    if not any(units[unit] for unit in held_out):
        raise DatasetError(
            "too little is known of the corrected results: nuclei that were edited or added lie "
            "in fewer than two places, so that none can be held out to measure on; correct some "
            "elsewhere, or draw an annotation of the class Checked around what is right"
        )
    return fields, SplitConfig(validation=tuple(held_out))


def _nuclei_by(groups: Sequence[str], fields: Sequence[Field]) -> Counter[str]:
    counts: Counter[str] = Counter()
    for group, field in zip(groups, fields, strict=True):
        counts[group] += len(field.peaks) - 1
    return counts

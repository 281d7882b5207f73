"""The model of a run, with all that the run wants around it, in one order.

The way of the pixels, and of the nuclei that are found in them:

1. colour normalisation: each method gets the slide in colours that it knows (`normalised`);
2. test-time augmentation: it sees it in several flips and turns (`augmented`);
3. the vote, where there are several methods (`ensemble`);
4. boundary refinement, on the pixels as they are (`refined`);
5. filters, each nucleus by itself (`filtered`);
6. names of the classes (`named_classes`).

What is not wanted is not there, so a run without any of it has the very model.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from wsi_engine.errors import ModelError, SettingsError
from wsi_engine.models.augmented import augmented
from wsi_engine.models.ensemble import DEFAULT_MEMBERS, NAME, ensemble
from wsi_engine.models.filtered import Filtered
from wsi_engine.models.named_classes import Colour, with_class_names
from wsi_engine.models.normalised import Normalised
from wsi_engine.models.protocol import Model, SplitsDab
from wsi_engine.models.refined import Kind, refined
from wsi_engine.models.registry import ModelEntry, find_model, package_of
from wsi_engine.models.turns import Count
from wsi_engine.slide.normalisation.look_files import SUFFIX, read_target
from wsi_engine.slide.normalisation.methods import Method, SplitDab
from wsi_engine.slide.protocol import SlideInfo
from wsi_engine.slide.whole_pixels import make_model_grid

LOOKS = Path(__file__).parent / "weights" / "looks.json"
"""What the images look like that the networks of this package were trained on, all on the same."""


class Wanted(Protocol):
    """The settings of a run, as far as they say what its model is; see `RunSettings`."""

    model: str
    weights: Path | None
    ensemble: tuple[str, ...]
    tta: Count | None
    normalise: Method | None
    normalise_target: Path | None
    refine: Kind | None
    min_area: float | None
    max_area: float | None
    min_circularity: float | None
    min_score: float | None
    simplify_um: float
    split_dab: SplitDab
    class_names: dict[str, str]
    class_colours: dict[str, Colour]


@dataclass(frozen=True, slots=True)
class Member:
    """A method of a run: the only one, or one that votes.

    Attributes
    ----------
    entry
        Its entry.
    weights
        The user's file of weights; ``None`` for those that it has.
    """

    entry: ModelEntry
    weights: Path | None

    @property
    def looks(self) -> Path | None:
        """File that says what it was trained on looks like; ``None`` where nobody knows."""
        weights = self.weights or self.entry.weights
        if weights is not None and (beside := weights.with_suffix(SUFFIX)).exists():
            return beside
        is_own = self.weights is None and package_of(self.entry.name) is None
        return LOOKS if is_own and self.entry.spec.embedded else None


def members_of(wanted: Wanted) -> tuple[Member, ...]:
    """Return the methods of a run, none of them loaded: several if they are to vote.

    Raises
    ------
    ModelError
        When there is none of some name.
    SettingsError
        When weights are given that nobody could tell whose they are.
    """
    if wanted.model != NAME:
        return (_member(wanted.model, wanted.weights),)
    if wanted.weights is not None:
        raise SettingsError(
            f"weights = {wanted.weights} could be of any method that votes: leave weights out, and "
            "give each its own, such as --ensemble unet=FILE,starconvex"
        )
    members = []
    for each in wanted.ensemble or DEFAULT_MEMBERS:
        name, _, file = each.partition("=")
        members.append(_member(name, Path(file) if file else None))
    return tuple(members)


def _member(name: str, weights: Path | None) -> Member:
    entry = find_model(name)
    if weights is not None and not weights.is_file():
        raise ModelError(f"{weights}: no such file, which should hold the weights of {name}")
    return Member(entry, weights)


def load_model(wanted: Wanted, given: Model | None = None, slide: SlideInfo | None = None) -> Model:
    """Load what a run asks for, on the CPU, with all around it.

    Parameters
    ----------
    given
        A model, in place of the one that is named.
    slide
        The slide that it is for, on whose pixels limits in µm² are judged; without it they are as
        large as the model's.

    Raises
    ------
    EngineError
        When a method is unknown, has no weights, does not go with another, or a look that is
        needed is not known or cannot be read.
    """
    if given is not None:
        model = _seeing(given, None, wanted)
    else:
        members = members_of(wanted)
        models = [_seeing(_load(m, len(members)), m.looks, wanted) for m in members]
        model = models[0] if len(models) == 1 else ensemble(models)
    if wanted.refine is not None:
        model = refined(model, wanted.refine)
    limits = (wanted.min_area, wanted.max_area, wanted.min_circularity, wanted.min_score)
    if limits != (None,) * 4:
        mpp = model.spec.mpp
        if slide is not None:
            mpp = make_model_grid(slide, mpp).mpp
        model = Filtered(model, *limits, wanted.simplify_um, mpp)
    return with_class_names(model, wanted.class_names, wanted.class_colours)


def _load(member: Member, count: int) -> Model:
    try:
        return member.entry.load(member.weights)
    except ModelError as error:
        if count == 1:
            raise
        # What it says of --weights is for a run of this method alone.
        name = member.entry.name
        reason = str(error).replace("--weights FILE", f"--ensemble {name}=FILE")
        raise ModelError(f"{name} cannot vote: {reason}") from None


def _seeing(model: Model, looks: Path | None, wanted: Wanted) -> Model:
    """Put around a method what changes what it sees."""
    if isinstance(model, SplitsDab):
        model = model.with_dab(wanted.split_dab)
    elif wanted.split_dab == "always":
        raise SettingsError(
            f"split_dab = always: {model.spec.name} cannot be shown haematoxylin and DAB apart, as "
            "the default model can: leave it out, or take that one"
        )
    if wanted.tta is not None:
        model = augmented(model, wanted.tta)
    if wanted.normalise is None:
        if wanted.normalise_target is not None:
            raise SettingsError(
                f"normalise_target = {wanted.normalise_target}: say how, too, such as --normalise "
                "macenko"
            )
        return model
    target = wanted.normalise_target or looks
    if target is None:
        raise SettingsError(
            f"what {model.spec.name} was trained on looks like is not known: give an image of it "
            f"with --normalise-target, or put a file {SUFFIX} beside its weights"
        )
    return Normalised(model, wanted.normalise, read_target(target, wanted.normalise))

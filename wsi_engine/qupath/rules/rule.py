"""What a rule is, and how severe its violation is in each version of QuPath."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from enum import IntEnum
from typing import Any, Generic, TypeVar

VERSIONS = ("0.2", "0.3", "0.4", "0.5", "0.6", "0.7")
"""Versions of QuPath, told apart by what they read."""

NEWEST = VERSIONS[-1]

Check = TypeVar("Check", bound=Callable[..., Any])


class Severity(IntEnum):
    """The fate of a file in QuPath, from harmless to worst."""

    FINE = 0
    ADVICE = 1
    """It arrives as it is, but there is something to know."""
    CHANGED = 2
    """It arrives, silently, as something else."""
    LOST = 3
    """Something of it, silently, does not arrive."""
    ABORTS = 4
    """Nothing arrives: the import of the whole file ends there."""


Severities = tuple[Severity, ...]
"""One for each of `VERSIONS`."""


def always(severity: Severity) -> Severities:
    """Give every version the same severity."""
    return (severity,) * len(VERSIONS)


def since(version: str, severity: Severity, before: Severity = Severity.FINE) -> Severities:
    """Give a version and its successors a severity."""
    first = VERSIONS.index(version)
    return (before,) * first + (severity,) * (len(VERSIONS) - first)


def until(version: str, severity: Severity) -> Severities:
    """Give a version and its predecessors a severity."""
    last = VERSIONS.index(version)
    return (severity,) * (last + 1) + (Severity.FINE,) * (len(VERSIONS) - last - 1)


def only(version: str, severity: Severity) -> Severities:
    """Give one version a severity."""
    return tuple(severity if v == version else Severity.FINE for v in VERSIONS)


def spelled(severities: Severities) -> str:
    """Say which versions do what, such as ``aborts in 0.4, lost since 0.5``."""
    spans: list[list[int]] = []
    for k, severity in enumerate(severities):
        if spans and severities[spans[-1][1]] == severity:
            spans[-1][1] = k
        else:
            spans.append([k, k])
    told = [span for span in spans if severities[span[0]] != Severity.FINE]
    return ", ".join(
        f"{severities[first].name.lower()} {_span(first, last)}" for first, last in reversed(told)
    )


def _span(first: int, last: int) -> str:
    if last == len(VERSIONS) - 1:
        return "always" if first == 0 else f"since {VERSIONS[first]}"
    if first == 0:
        return f"up to {VERSIONS[last]}"
    return f"in {VERSIONS[first]}" if first == last else f"in {VERSIONS[first]} to {VERSIONS[last]}"


@dataclass(frozen=True, slots=True, eq=False)
class Rule(Generic[Check]):
    """One thing that can be wrong.

    Attributes
    ----------
    id
        Name of what is wrong, such as ``class-without-colour``.
    severities
        One for each of `VERSIONS`.
    effect
        One sentence: what QuPath makes of it.
    advice
        One sentence: what to do.
    check
        Finds it.
    """

    id: str
    severities: Severities
    effect: str
    advice: str
    check: Check

    def severity(self, version: str = NEWEST) -> Severity:
        """Return how severe it is in a version of QuPath."""
        return self.severities[VERSIONS.index(version)]

    @property
    def worst(self) -> Severity:
        """The severity in the version that takes it worst."""
        return max(self.severities)

    def within_archive(self) -> Rule[Check]:
        """Return the rule for an entry of an archive, where what aborts loses that entry alone."""
        if self.worst < Severity.ABORTS:
            return self
        return replace(
            self,
            severities=tuple(min(severity, Severity.LOST) for severity in self.severities),
            effect=f"{self.effect} Of an archive, the entry alone is missing, without a word.",
        )


class RuleTable(list[Rule[Check]]):
    """The rules about one kind of thing; they are written below their line of the table.

    Parameters
    ----------
    is_ordinary
        A quick test for the common case. It holds only of things that no rule objects to.
    """

    def __init__(self, is_ordinary: Callable[[Any], bool] | None = None) -> None:
        super().__init__()
        self.is_ordinary = is_ordinary

    def objections(self, *thing: Any) -> Iterator[tuple[Rule[Check], str]]:
        """Yield the rules that a thing violates, each with a few words on how."""
        if self.is_ordinary is not None and self.is_ordinary(*thing):
            return
        for rule in self:
            detail = rule.check(*thing)
            if detail is not None:
                yield rule, detail

    def rule(
        self, identity: str, severities: Severities, effect: str, advice: str
    ) -> Callable[[Check], Check]:
        """Add the decorated check to the table."""

        def add(check: Check) -> Check:
            self.append(Rule(identity, severities, effect, advice, check))
            return check

        return add


JSONCheck = Callable[[Any], str | None]
"""Looks at one value; returns what it found wrong, in a few words, or none."""


def shown(value: object, most: int = 40, *, within: bool = False) -> str:
    """Return a value as a few words, however long and deep it is."""
    if isinstance(value, str):
        text = repr(value[: most + 1])
    elif isinstance(value, dict):
        text = f"an object of {len(value)}"
    elif isinstance(value, list) and value and (within or len(value) > 4):
        text = f"a list of {len(value)}"
    elif isinstance(value, list):
        text = f"[{', '.join(shown(item, 10, within=True) for item in value)}]"
    elif value is None or isinstance(value, bool):
        text = {None: "null", True: "true", False: "false"}[value]
    elif isinstance(value, int) and value.bit_length() > 64:
        text = f"a number of {value.bit_length()} bits"
    else:
        text = repr(value)
    return text if len(text) <= most + 2 else text[:most] + "…"

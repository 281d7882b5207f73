"""What other packages bring along, found by their entry points."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

Kind = TypeVar("Kind")


@dataclass(frozen=True)
class Plugins(Generic[Kind]):
    """What installed packages offer in one group of entry points.

    Attributes
    ----------
    found
        Objects that can be used, by name, in the order of their names.
    packages
        Name and version of the package of each of them.
    problems
        A sentence for each name that cannot be used; it names the package.
    """

    found: Mapping[str, Kind]
    packages: Mapping[str, str]
    problems: Mapping[str, str]


@cache
def plugins(group: str, kind: type[Kind], taken: frozenset[str] = frozenset()) -> Plugins[Kind]:
    """Load the objects of a group; what is broken is a sentence and no error.

    Parameters
    ----------
    group
        Name of a group of entry points, such as ``wsi_engine.models``.
    kind
        Class that each object must be of. If it has a ``name``, that is the entry point's.
    taken
        Names that this package gives to its own; nobody else's has them.
    """
    # Most commands do without it, and it takes as long to import as they to start.
    from importlib.metadata import entry_points

    what = group.rpartition(".")[2].removesuffix("s")
    offers: dict[str, list[EntryPoint]] = defaultdict(list)
    for point in entry_points(group=group):
        offers[point.name].append(point)
    found: dict[str, Kind] = {}
    packages: dict[str, str] = {}
    problems: dict[str, str] = {}
    for name, points in sorted(offers.items()):
        givers = [_package(point) for point in points]
        subject = f"{what} {name!r} of the package {givers[0]}"
        if name in taken:
            problems[name] = f"{subject} is passed over: wsi_engine has one of that name"
        elif len(points) > 1:
            both = " and ".join(sorted(givers))
            problems[name] = f"{what} {name!r} is in the packages {both}: uninstall all but one"
        else:
            try:
                found[name] = _load(points[0], kind)
                packages[name] = givers[0]
            # Whatever a package does when it is imported, the others go on.
            except (Exception, SystemExit) as error:
                reason = str(error) if isinstance(error, _UnfitError) else _told(error)
                problems[name] = f"{subject} cannot be used ({reason}): update or uninstall it"
    return Plugins(found, packages, problems)


class _UnfitError(Exception):
    """An entry point leads to something else than its group is for."""


def _load(point: EntryPoint, kind: type[Kind]) -> Kind:
    value = point.load()
    if not isinstance(value, kind):
        raise _UnfitError(f"it is a {type(value).__name__}, not a {kind.__name__}")
    name = getattr(value, "name", point.name)
    if name != point.name:
        raise _UnfitError(f"it calls itself {name!r}")
    return value


def _package(point: EntryPoint) -> str:
    return f"{point.dist.name} {point.dist.version}" if point.dist else "without a name"


def _told(error: BaseException) -> str:
    lines = str(error).splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__

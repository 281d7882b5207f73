"""The events of an archive while it runs; docs/archive.md says what each one holds."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal, TextIO

from wsi_engine.errors import ListenerError

EventName = Literal[
    "archive_started",
    "worker_joined",
    "slide_started",
    "slide_progress",
    "slide_warning",
    "slide_note",
    "slide_done",
    "slide_failed",
    "slide_elsewhere",
    "worker_died",
    "archive_ended",
]


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened.

    Attributes
    ----------
    event
        Name of the event, one of those in docs/archive.md.
    slide, worker
        Name of the slide's result, and of the worker; ``None`` where the event concerns neither.
    facts
        Further numbers and texts of the event.
    time
        Time of the event, UTC in ISO 8601.
    """

    event: EventName
    slide: str | None = None
    worker: str | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)
    time: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="milliseconds"))


Listener = Callable[[Event], None]


def guarded(listen: Listener) -> Listener:
    """Return a listener whose own errors cannot be taken for those of a slide.

    It raises `ListenerError` for whatever the other raises.
    """

    def tell(event: Event) -> None:
        try:
            listen(event)
        except Exception as error:
            raise ListenerError(
                f"the log, or whoever else listens, cannot take {event.event!r} "
                f"({type(error).__name__}: {error}): finished slides are kept, and the same "
                "command goes on from there"
            ) from error

    return tell


def ignore(event: Event) -> None:
    """Listen to nothing."""
    del event


class JsonLog:
    """A listener that writes each event as one line of JSON, at once.

    Parameters
    ----------
    stream
        Text file.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __call__(self, event: Event) -> None:
        """Write an event."""
        named = {"slide": event.slide, "worker": event.worker}
        line = {"time": event.time, "event": event.event}
        line |= {name: value for name, value in named.items() if value is not None}
        # ASCII, so that a name in no known encoding, or with line breaks, cannot break the line.
        self._stream.write(json.dumps(line | dict(event.facts), ensure_ascii=True) + "\n")
        self._stream.flush()

"""Claims: of all the processes that want a folder, on any machine, one has it."""

from __future__ import annotations

import json
import os
import platform
import random
import threading
import time
import uuid
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

from wsi_engine.closing import Closing

HEARTBEAT_S = 10.0
"""How often a claim shows that its owner lives."""

STALE_S = 180.0
"""How old a heartbeat looks that is doubted; network disks show times up to a minute late."""

_MOST_ATTEMPTS = 20


@dataclass(frozen=True, slots=True)
class Owner:
    """Who has a folder.

    Attributes
    ----------
    host
        Name of the machine.
    machine
        Scope in which the number of the process is valid: the machine since it was started, and the
        container. Names of hosts do not tell containers apart.
    pid
        Number of the process.
    process_started
        Start of the process in ticks since the machine was started, as numbers are given out
        again; ``None`` where the system does not say.
    token
        Random text, never the same twice.
    """

    host: str
    machine: str
    pid: int
    process_started: int | None
    token: str

    @property
    def is_known_dead(self) -> bool | None:
        """Whether the process has ended; ``None`` if that cannot be seen from here."""
        if os.name != "posix" or self.machine != _machine():
            return None
        try:
            os.kill(self.pid, 0)
        except (ProcessLookupError, OverflowError):
            return True
        except PermissionError:
            pass  # somebody else's, but there
        state, started = _process(self.pid)
        return state in {"Z", "X"} or (started is not None and started != self.process_started)


class Claim(Closing):
    """The right to work in a folder, from `take` to the end of the block; a context.

    A claim is a file ``claim-<number>``, made with O_EXCL. The claim of a dead owner is never
    removed to make room, which two takers could do one after the other, each removing what the
    other has just made: it is outbid by a file of the next number, which only one of them can
    make.

    Attributes
    ----------
    path
        Path of the file.
    """

    def __init__(self, path: Path, content: bytes) -> None:
        self.path = path
        self._content = content
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="claim", daemon=True)
        self._lost = False
        self._thread.start()

    @classmethod
    def take(cls, folder: Path) -> Self | None:
        """Claim a folder, which is made if absent.

        An owner is taken for dead when its process is gone from this machine, or else when its
        heartbeat is old and does not move while it is watched. No clock decides: the age is
        the difference of two times that the disk gave, and the watch is timed monotonically.

        Returns
        -------
        Claim or None
            ``None``: somebody who is alive has it.
        """
        for _ in range(_MOST_ATTEMPTS):
            folder.mkdir(parents=True, exist_ok=True)
            try:
                return cls._outbid(folder)
            except (FileExistsError, FileNotFoundError):
                # Somebody was faster, or has just gone and taken the folder along.
                time.sleep(random.uniform(0, 0.1))
        return None

    @classmethod
    def _outbid(cls, folder: Path) -> Self | None:
        dead = {}
        for path in _claims(folder):
            content = _state(path)
            if content is not None and not _is_abandoned(path):
                return None
            dead[path] = content
        path = folder / f"claim-{max(map(_number, dead), default=0) + 1:06d}"
        content = _make(path)
        others = [other for other in _claims(folder) if other != path]
        if any(other not in dead or _state(other) not in (dead[other], None) for other in others):
            # Made by two who saw different claims: both step back.
            path.unlink(missing_ok=True)
            raise FileExistsError
        for other in others:
            other.unlink(missing_ok=True)
        return cls(path, content)

    @property
    def is_held(self) -> bool:
        """Whether nobody has taken the folder over, as of the last heartbeat.

        That happens to a process that was stopped for minutes, or cut off from the disk.
        """
        return not self._lost

    def refresh(self) -> bool:
        """Show that the owner lives, and return whether the claim is still held."""
        try:
            if _state(self.path) == self._content:
                os.utime(self.path)
            else:
                self._lost = True
        except OSError:
            pass  # a disk that does not answer has not said that somebody took over
        return not self._lost

    def close(self) -> None:
        """Give the folder free."""
        if not self._ended.is_set():
            self._ended.set()
            self._thread.join()
            if self.refresh():
                self.path.unlink(missing_ok=True)

    def _beat(self) -> None:
        while not self._ended.wait(HEARTBEAT_S) and self.refresh():
            pass


def owner(folder: Path) -> Owner | None:
    """Return who seems to have a folder, at a glance; ``None`` if nobody.

    What is shown to people: whether it can be had is known by `Claim.take` alone.
    """
    for path in reversed(_claims(folder)):
        found, modified = _read(path), _modified_ns(path)
        if found is None or modified is None or found.is_known_dead:
            continue
        if found.is_known_dead is False or abs(time.time_ns() - modified) / 1e9 <= STALE_S:
            return found
    return None


def _claims(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("claim-*") if path.name[6:].isdecimal())


def _number(path: Path) -> int:
    return int(path.name[6:])


def _make(path: Path) -> bytes:
    pid = os.getpid()
    me = Owner(platform.node(), _machine(), pid, _process(pid)[1], uuid.uuid4().hex)
    content = json.dumps(asdict(me)).encode()
    handle = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(content)
    except OSError:
        path.unlink()  # the disk is full
        raise
    return content


def _state(path: Path) -> bytes | None:
    """Content of a claim, by which it is told from a later one of the same name."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None


def _read(path: Path) -> Owner | None:
    try:
        found = Owner(**json.loads(_state(path) or b""))
    except (OSError, ValueError, TypeError):
        return None  # still empty, or damaged
    names = (found.host, found.machine, found.token)
    numbers = (found.pid, found.process_started or 0)
    known = all(isinstance(name, str) for name in names)
    return found if known and all(type(n) is int and 0 <= n < 2**63 for n in numbers) else None


def _is_abandoned(path: Path) -> bool:
    claimed_by = _read(path)
    dead = claimed_by.is_known_dead if claimed_by is not None else None
    if dead is not None:
        return dead
    # From elsewhere, or cut off while it was made. A time in the future is as odd as an old one.
    before = _modified_ns(path)
    if before is None or abs(_disk_time_ns(path.parent) - before) / 1e9 <= STALE_S:
        return before is None
    time.sleep(2 * HEARTBEAT_S)
    return before == _modified_ns(path)


def _disk_time_ns(folder: Path) -> int:
    """Ask the disk what time it is: that of a file made now."""
    probe = folder / f".now-{uuid.uuid4().hex}"
    probe.touch()
    now = probe.stat().st_mtime_ns
    probe.unlink()
    return now


def _modified_ns(path: Path) -> int | None:
    try:
        return path.stat().st_mtime_ns
    except FileNotFoundError:
        return None


def _machine() -> str:
    """Name the space in which process numbers are unique and can be looked up."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot}/{Path('/proc/self/ns/pid').stat().st_ino}"
    except OSError:
        return platform.node()


def _process(pid: int) -> tuple[str, int | None]:
    """Return state and start of a process, in ticks of the machine; where they are told."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return "", None
    # The name of the program, in parentheses, may hold anything.
    state, *rest = text.rpartition(")")[2].split()
    return state, int(rest[18])

"""Claims: one owner at a time, whoever dies, whatever the clocks say."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from wsi_engine.store import claim
from wsi_engine.store.claim import STALE_S, Claim, owner

TAKE_AND_DIE = """
import os, sys
from pathlib import Path
from wsi_engine.store.claim import Claim
assert Claim.take(Path(sys.argv[1]))
os._exit(9)
"""


def die_holding(folder: Path) -> Path:
    """Let another process take the folder and die."""
    subprocess.run([sys.executable, "-c", TAKE_AND_DIE, str(folder)], check=False)
    (path,) = folder.glob("claim-*")
    return path


def from_elsewhere(path: Path, age_s: float = 0.0) -> Path:
    """Make a claim one of another machine, with a heartbeat so many seconds ago."""
    values = json.loads(path.read_text()) | {"host": "elsewhere", "machine": "other"}
    path.write_text(json.dumps(values))
    beat = time.time() - age_s
    os.utime(path, (beat, beat))
    return path


@pytest.fixture
def _quick(monkeypatch):
    monkeypatch.setattr(claim, "HEARTBEAT_S", 0.02)


def test_a_folder_that_nobody_has_is_made_and_taken(tmp_path):
    folder = tmp_path / "a" / "b"
    with Claim.take(folder) as taken:
        assert taken.is_held
        assert [path.name for path in folder.iterdir()] == ["claim-000001"]
    assert list(folder.iterdir()) == []


def test_what_somebody_has_is_not_given(tmp_path):
    with Claim.take(tmp_path):
        assert Claim.take(tmp_path) is None
    with Claim.take(tmp_path) as again:
        assert again is not None


def test_the_owner_can_be_read(tmp_path):
    assert owner(tmp_path) is None
    with Claim.take(tmp_path):
        found = owner(tmp_path)
        assert (found.host, found.pid) == (socket.gethostname(), os.getpid())
    assert owner(tmp_path) is None


def test_closing_again_does_nothing(tmp_path):
    first = Claim.take(tmp_path)
    first.close()
    with Claim.take(tmp_path):
        first.close()
        assert owner(tmp_path) is not None


def test_the_dead_leave_their_claim_to_the_next_at_once(tmp_path):
    die_holding(tmp_path)
    assert owner(tmp_path) is None
    begun = time.monotonic()
    with Claim.take(tmp_path) as taken:
        assert time.monotonic() - begun < 1
        assert [path.name for path in tmp_path.iterdir()] == ["claim-000002"] == [taken.path.name]


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells when a process began")
def test_a_number_that_another_process_has_now_is_not_its_owner(tmp_path):
    path = die_holding(tmp_path)
    values = json.loads(path.read_text())
    path.write_text(json.dumps(values | {"pid": os.getpid()}))
    with Claim.take(tmp_path) as taken:
        assert taken is not None


@pytest.mark.parametrize("age_s", [0.0, 0.9 * STALE_S, -0.9 * STALE_S])
def test_a_heartbeat_from_elsewhere_is_believed(tmp_path, age_s):
    from_elsewhere(die_holding(tmp_path), age_s)
    assert Claim.take(tmp_path) is None
    assert owner(tmp_path).host == "elsewhere"


@pytest.mark.usefixtures("_quick")
@pytest.mark.parametrize("age_s", [1.1 * STALE_S, 1e6, -1e6])
def test_an_old_heartbeat_that_does_not_move_is_of_the_dead(tmp_path, age_s):
    """Also one from the future: a clock that was wrong must not lock a folder for ever."""
    from_elsewhere(die_holding(tmp_path), age_s)
    assert owner(tmp_path) is None
    with Claim.take(tmp_path) as taken:
        assert taken is not None


@pytest.mark.parametrize("jump_s", [-1e6, 1e6])
def test_an_old_heartbeat_that_moves_is_of_the_living(tmp_path, monkeypatch, jump_s):
    """The clock of the disk, or of the owner's machine, has jumped."""
    path = from_elsewhere(die_holding(tmp_path), jump_s)
    monkeypatch.setattr(
        claim.time, "sleep", lambda seconds: os.utime(path, (time.time() - jump_s + seconds,) * 2)
    )
    assert Claim.take(tmp_path) is None


def test_clocks_that_jump_take_nothing_from_an_owner_on_this_machine(tmp_path, monkeypatch):
    with Claim.take(tmp_path) as taken:
        for moment in (0, time.time() + 1e8):
            os.utime(taken.path, (moment, moment))
            monkeypatch.setattr(time, "time", lambda moment=moment: moment)
            assert Claim.take(tmp_path) is None
            assert owner(tmp_path).pid == os.getpid()


@pytest.mark.usefixtures("_quick")
@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"pid": 1}', b"\xff\xfe", b"null"])
def test_a_claim_that_was_cut_off_or_damaged_goes_by_its_age(tmp_path, content):
    path = tmp_path / "claim-000007"
    path.write_bytes(content)
    assert Claim.take(tmp_path) is None
    beat = time.time() - 2 * STALE_S
    os.utime(path, (beat, beat))
    with Claim.take(tmp_path) as taken:
        assert taken.path.name == "claim-000008"


@pytest.mark.parametrize("values", [{"pid": -1}, {"pid": 2**80}, {"pid": "1"}, {"host": ["a"]}])
def test_hostile_claims_are_not_followed(tmp_path, values):
    path = die_holding(tmp_path)
    path.write_text(json.dumps(json.loads(path.read_text()) | values))
    assert owner(tmp_path) is None
    assert Claim.take(tmp_path) is None


@pytest.mark.usefixtures("_quick")
def test_the_heart_beats(tmp_path):
    with Claim.take(tmp_path) as taken:
        os.utime(taken.path, (0, 0))
        deadline = time.monotonic() + 5
        while taken.path.stat().st_mtime == 0:
            assert time.monotonic() < deadline
            time.sleep(0.01)


@pytest.mark.parametrize("what", ["removed", "another's"])
def test_an_owner_that_was_outbid_learns_of_it(tmp_path, what):
    taken = Claim.take(tmp_path)
    taken.path.unlink()
    if what == "another's":
        taken.path.write_text("{}")
    assert not taken.refresh()
    assert not taken.is_held
    taken.close()
    assert taken.path.exists() == (what == "another's")


CROWD = """
import os, random, sys, time
from pathlib import Path
from wsi_engine.store.claim import Claim

folder, seed = Path(sys.argv[1]), int(sys.argv[2])
chance, inside, won = random.Random(seed), folder.with_name("inside"), 0
end = time.monotonic() + 4
while time.monotonic() < end:
    claim = Claim.take(folder)
    if claim is None:
        time.sleep(chance.uniform(0, 0.002))
        continue
    os.mkdir(inside)  # fails if another is inside
    won += 1
    time.sleep(chance.uniform(0, 0.002))
    os.rmdir(inside)
    if chance.random() < 0.1 and time.monotonic() < end - 1:
        # The claim of a dead process, as if by kill -9; this one goes on under another number.
        if os.fork():
            os._exit(0)
        claim._thread = type("T", (), {"join": lambda self: None})()
        continue
    claim.close()
folder.with_name(f"won-{seed}").write_text(str(won))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="processes die by fork")
def test_of_a_crowd_one_at_a_time_is_inside_though_owners_die(tmp_path):
    folder = tmp_path / "claims"
    crowd = [
        subprocess.Popen(
            [sys.executable, "-c", CROWD, str(folder), str(seed)], stderr=subprocess.PIPE
        )
        for seed in range(6)
    ]
    # The pipe is open until the last of its descendants has ended.
    assert [process.communicate(timeout=60)[1] for process in crowd] == [b""] * 6
    won = [int(path.read_text()) for path in tmp_path.glob("won-*")]
    assert len(won) == 6
    assert sum(won) > 100
    with Claim.take(folder) as taken:
        assert taken is not None


def test_a_folder_that_cannot_be_is_an_error_and_not_somebody_elses(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OSError):
        Claim.take(tmp_path / "file")


@pytest.mark.skipif(sys.platform != "linux", reason="has no device that is always full")
def test_a_claim_that_cannot_be_written_is_not_left_behind(tmp_path, monkeypatch):
    opened = os.open

    def full(path, flags, mode):
        os.close(opened(path, flags, mode))
        return opened("/dev/full", os.O_WRONLY)

    with monkeypatch.context() as patched:
        patched.setattr(os, "open", full)
        with pytest.raises(OSError, match="No space left"):
            Claim.take(tmp_path)
    with Claim.take(tmp_path) as taken:
        assert taken is not None

"""A view answers to its token alone, on this machine alone, and can only be read."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from html.parser import HTMLParser
from http.client import HTTPResponse
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.support.results import write_result
from tests.support.views import request, running
from wsi_engine.view.content import page_files
from wsi_engine.view.server import HEADERS, OPENSEADRAGON_STYLE, POLICY, ViewServer

PAGE = page_files()
SECRETS = ("run.json", "nuclei.parquet", "columns.json", "report.html")


@pytest.fixture(scope="module")
def server(finished_run: Path):
    with running(finished_run) as server:
        yield server


@pytest.fixture(scope="module")
def cookie(server: ViewServer) -> str:
    """What a browser has after it opened the address."""
    answer, _ = request(server, f"/?token={server.token}")
    return answer.getheader("Set-Cookie").partition(";")[0]


def test_the_address_lets_in_and_hides_the_token(server: ViewServer):
    assert server.address == f"http://127.0.0.1:{server.server_port}/?token={server.token}"
    assert len(server.token) >= 40
    answer, body = request(server, f"/?token={server.token}")
    assert (answer.status, body) == (303, b"")
    assert answer.getheader("Location") == "/"
    name, *rest = answer.getheader("Set-Cookie").split("; ")
    assert name == f"wsi_engine_view_{server.server_port}={server.token}"
    assert set(rest) == {"Path=/", "HttpOnly", "SameSite=Strict"}


def test_the_page_and_its_data_come_to_who_has_the_cookie(server: ViewServer, cookie: str):
    answer, body = request(server, "/", Cookie=cookie)
    assert answer.status == 200
    assert body == PAGE["index.html"]
    for path, kind in (
        ("/main.js", "text/javascript; charset=utf-8"),
        ("/view.css", "text/css; charset=utf-8"),
        ("/icon.svg", "image/svg+xml"),
        ("/openseadragon/LICENSE.txt", "text/plain; charset=utf-8"),
        ("/data/view.json", "application/json"),
        ("/data/points/0.bin", "application/octet-stream"),
        ("/data/slide/0/0_0.jpg", "image/jpeg"),
    ):
        answer, body = request(server, path, Cookie=f"other=1; {cookie}")
        assert (answer.status, answer.getheader("Content-Type")) == (200, kind), path
        assert body == server.content.get(path[1:])
        assert server.token.encode() not in body


def test_a_program_gives_the_token_in_a_header(server: ViewServer):
    answer, _ = request(server, "/data/view.json", Authorization=f"Bearer {server.token}")
    assert answer.status == 200


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Cookie": "wsi_engine_view=wrong"},
        {"Cookie": "wsi_engine_view_PORT=wrong"},
        {"Cookie": "wsi_engine_view_PORT="},
        {"Cookie": "wsi_engine_view_PORT=TOKENx"},
        {"Cookie": "wsi_engine_view_1=TOKEN"},
        {"Cookie": '"; =;;'},
        {"Authorization": "Bearer wrong"},
        {"Authorization": "Bearer ÿ"},
        {"Authorization": "Basic TOKEN"},
        {"Authorization": "TOKEN"},
        {"Cookie": "wsi_engine_view_PORT=TOKEN", "Sec_Fetch_Site": "cross-site"},
        {"Cookie": "wsi_engine_view_PORT=TOKEN", "Sec_Fetch_Site": "same-site"},
        {"Cookie": "wsi_engine_view_PORT=TOKEN", "Host": "evil.example:PORT"},
        {"Cookie": "wsi_engine_view_PORT=TOKEN", "Host": "127.0.0.1:1"},
        {"Cookie": "wsi_engine_view_PORT=TOKEN", "Host": "127.0.0.1"},
        {"Cookie": "wsi_engine_view_PORT=TOKEN", "Host": ""},
    ],
)
@pytest.mark.parametrize("path", ["/", "/data/view.json", "/main.js", "/absent", "/?token=wrong"])
def test_nobody_else_is_let_in(server: ViewServer, path: str, headers: dict[str, str]):
    filled = {
        name: text.replace("PORT", str(server.server_port)).replace("TOKEN", server.token)
        for name, text in headers.items()
    }
    answer, body = request(server, path, **filled)
    assert answer.status == 403
    assert body in (
        b"open the address that `wsi-engine view` printed: it holds the token of this view",
        b"this is not the address of the view",
    )
    assert answer.getheader("Set-Cookie") is None


def test_a_name_that_leads_to_this_machine_does_not_get_the_cookie(server: ViewServer):
    """What a page does whose name was made to point to 127.0.0.1, even if it had the token."""
    host = f"evil.example:{server.server_port}"
    answer, _ = request(server, f"/?token={server.token}", Host=host)
    assert answer.status == 403
    assert answer.getheader("Set-Cookie") is None


def test_localhost_is_this_machine_too(server: ViewServer, cookie: str):
    host = f"localhost:{server.server_port}"
    assert request(server, "/", Cookie=cookie, Host=host)[0].status == 200


def test_only_this_machine_is_listened_to(server: ViewServer):
    assert server.socket.getsockname()[0] == "127.0.0.1"


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"])
def test_it_can_only_be_read(server: ViewServer, cookie: str, method: str):
    answer, _ = request(server, "/data/view.json", method, Cookie=cookie)
    assert (answer.status, answer.getheader("Allow")) == (405, "GET, HEAD")
    assert request(server, "/", "MAKE", Cookie=cookie)[0].status == 501


def test_head_is_get_without_its_body(server: ViewServer, cookie: str):
    full, body = request(server, "/data/view.json", Cookie=cookie)
    head, nothing = request(server, "/data/view.json", "HEAD", Cookie=cookie)
    assert nothing == b""
    assert (head.status, head.getheader("Content-Length")) == (200, str(len(body)))
    assert headers_of(head) == headers_of(full)


def headers_of(answer: HTTPResponse) -> dict[str, str]:
    return {name: text for name, text in answer.getheaders() if name != "Date"}


@pytest.mark.parametrize(
    ("path", "status"),
    [
        *[(f"/{name}", 404) for name in SECRETS],
        *[(f"/../{name}", 404) for name in SECRETS],
        ("/data/../../run.json", 404),
        ("/data/%2e%2e/%2e%2e/run.json", 404),
        ("/..%2frun.json", 404),
        ("/..\\run.json", 404),
        ("//etc/passwd", 404),
        ("/etc/passwd", 404),
        ("/main.js/", 404),
        ("/main.js%00", 404),
        ("*", 404),
        ("/data/points/1.bin", 404),
    ],
)
def test_no_path_leads_out_of_the_view(server: ViewServer, cookie: str, path: str, status: int):
    answer, body = request(server, path, Cookie=cookie)
    assert (answer.status, body) == (status, b"there is no such file")


def test_every_answer_is_protected(server: ViewServer, cookie: str):
    for path, method, headers in (
        ("/", "GET", {"Cookie": cookie}),
        ("/data/points/0.bin", "GET", {"Cookie": cookie}),
        ("/absent", "GET", {"Cookie": cookie}),
        ("/", "GET", {}),
        ("/", "POST", {}),
        ("/", "MAKE", {}),
    ):
        answer, _ = request(server, path, method, **headers)
        assert HEADERS.items() <= dict(answer.getheaders()).items(), (path, method)


def test_what_cannot_be_read_is_one_sentence(finished_run: Path, tmp_path: Path):
    folder = write_result(tmp_path / "s", [[10, 10]])
    with running(folder) as server:
        (folder / "nuclei.parquet").write_bytes(b"PAR1")
        # The footer is in memory; what it points to is gone.
        answer, body = request(
            server, "/data/values/0.json", Authorization=f"Bearer {server.token}"
        )
    assert answer.status == 500
    assert b"run the slide again" in body


def test_a_table_that_lacks_something_does_not_end_the_view(tmp_path: Path):
    folder = write_result(tmp_path / "s", [[10, 10]])
    path = folder / "nuclei.parquet"
    pq.write_table(pq.read_table(path).drop_columns(["id"]), path)
    with running(folder) as server:
        known = {"Authorization": f"Bearer {server.token}"}
        answer, body = request(server, "/data/values/0.json", **known)
        assert (answer.status, body) == (500, b"data/values/0.json cannot be made of this result")
        assert request(server, "/data/points/0.bin", **known)[0].status == 200


def test_two_views_do_not_know_each_other(server: ViewServer, finished_run: Path):
    with running(finished_run) as other:
        assert other.token != server.token
        for cookie in (f"{server.cookie}={server.token}", f"{other.cookie}={server.token}"):
            assert request(other, "/", Cookie=cookie)[0].status == 403


# The page


class Loads(HTMLParser):
    """All that a page loads, and its inline parts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.policy = ""
        self._inside = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: text or "" for name, text in attrs}
        assert not [name for name in values if name.startswith("on") or name == "style"]
        if tag == "script":
            assert values.get("src")
        assert tag != "style"
        self.loads += [values[name] for name in ("src", "href") if name in values]
        if values.get("http-equiv") == "Content-Security-Policy":
            self.policy = values["content"]
        self._inside = tag

    def handle_data(self, data: str) -> None:
        assert self._inside != "script" or not data.strip()


def test_the_page_loads_nothing_from_elsewhere():
    page = Loads(PAGE["index.html"].decode())
    assert set(page.loads) <= PAGE.keys()
    for name, content in PAGE.items():
        if name.endswith((".js", ".css")) and not name.startswith("openseadragon/"):
            text = content.decode()
            assert not re.search(r"https?://|@import|url\(|\beval\b|new Function|innerHTML", text)
            imported = re.findall(r'^import .* from "\./(.*)";$', text, re.MULTILINE)
            assert set(imported) <= PAGE.keys(), name


def test_the_policy_allows_no_inline_script():
    """An exported page has the policy of a served one, but for what only a header can say."""
    rules = dict(rule.split(" ", 1) for rule in POLICY.split("; "))
    assert rules == {
        "default-src": "'none'",
        "script-src": "'self'",
        "style-src": f"'self' {OPENSEADRAGON_STYLE}",
        "img-src": "'self'",
        "connect-src": "'self'",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
    }
    page = Loads(PAGE["index.html"].decode())
    assert f"{page.policy}; frame-ancestors 'none'" == POLICY


def test_the_slide_viewer_is_named_with_its_version_and_licence():
    release = PAGE["openseadragon/openseadragon.min.js"].decode()
    version = re.match(r"//! openseadragon ([\d.]+)\n", release)[1]
    assert f"OpenSeadragon {version}</a>" in PAGE["index.html"].decode()
    licence = PAGE["openseadragon/LICENSE.txt"].decode()
    assert "CodePlex Foundation" in licence
    assert "Redistributions in binary form must reproduce the above copyright" in licence


# Its end


@pytest.fixture
def command(finished_run: Path):
    """`wsi-engine view` in a process of its own, and the address that it printed."""

    def as_in_a_terminal() -> None:
        # Tests that run in the background, or under nohup, ignore these, and so would it.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGHUP, signal.SIG_DFL)

    process = subprocess.Popen(
        [sys.executable, "-m", "wsi_engine", "view", str(finished_run), "--no-browser"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
        preexec_fn=None if sys.platform == "win32" else as_in_a_terminal,
    )  # fmt: skip
    try:
        yield process, process.stdout.readline().strip()
    finally:
        process.kill()
        process.wait()


@pytest.mark.skipif(sys.platform == "win32", reason="Windows sends no such signals")
@pytest.mark.parametrize(("name", "code"), [("SIGINT", 0), ("SIGTERM", 143), ("SIGHUP", -1)])
def test_it_ends_with_ctrl_c_and_with_the_terminal(command, name: str, code: int):
    process, address = command
    port = int(re.fullmatch(r"http://127\.0\.0\.1:(\d+)/\?token=[\w-]{43}", address)[1])
    with socket.create_connection(("127.0.0.1", port), timeout=10) as browser:
        browser.sendall(b"GET / HTTP/1.1\r\n")  # one that is still being asked does not hold it up
        time.sleep(0.2)
        process.send_signal(signal.Signals[name])
        assert process.wait(15) == code
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), timeout=10)
    assert "Traceback" not in process.stderr.read()

"""A view served to one person on this machine, and to nobody else."""

from __future__ import annotations

import logging
import secrets
import socketserver
from http import HTTPStatus
from http.cookies import CookieError, SimpleCookie
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import PurePosixPath
from urllib.parse import parse_qs

from wsi_engine.errors import EngineError
from wsi_engine.view.content import START_PAGE, ViewContent

log = logging.getLogger(__name__)

HOST = "127.0.0.1"
TOKEN = "token"
SECONDS_OF_SILENCE = 60.0
"""A connection on which nothing is asked for so long is closed."""

READ_ONLY = "GET, HEAD"

OPENSEADRAGON_STYLE = "'sha256-9xTiqzfwFaL2SGb1rmr8gysEwVVjIvqWAgmZgqFqpEE='"
"""The one rule of style that OpenSeadragon puts into the page by itself."""

POLICY = (
    f"default-src 'none'; script-src 'self'; style-src 'self' {OPENSEADRAGON_STYLE}; "
    "img-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)

HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}

TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".txt": "text/plain; charset=utf-8",
    ".json": "application/json",
    ".bin": "application/octet-stream",
    ".jpg": "image/jpeg",
}
"""Media types by the suffix of a name."""


class ViewServer(ThreadingHTTPServer):
    """Serves the files of a view on a port that is free, read-only, to who has its token.

    Parameters
    ----------
    content
        The files.

    Attributes
    ----------
    address
        Where to look at it, with the token.
    token
        Secret of this server: in the address, where it becomes a cookie that no script reads
        and no other site sends; programs give it as ``Authorization: Bearer``.
    """

    daemon_threads = True

    def __init__(self, content: ViewContent) -> None:
        self.content = content
        self.token = secrets.token_urlsafe(32)
        super().__init__((HOST, 0), _Handler)
        self.hosts = {f"{name}:{self.server_port}" for name in (HOST, "localhost")}
        # Cookies know no ports: another view on this machine has its own.
        self.cookie = f"wsi_engine_view_{self.server_port}"
        self.address = f"http://{HOST}:{self.server_port}/?{TOKEN}={self.token}"

    def server_bind(self) -> None:
        """Bind without asking any name server what this machine is called."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = HOST, self.server_address[1]

    def handle_error(self, request: object, client_address: object) -> None:
        """Keep quiet of browsers that go away in the middle; tell the rest to who debugs."""
        log.debug("a request was not answered", exc_info=True)

    def knows(self, secret: str) -> bool:
        """Tell whether somebody has the token."""
        return secrets.compare_digest(secret.encode(), self.token.encode())


class _Handler(BaseHTTPRequestHandler):
    server: ViewServer
    protocol_version = "HTTP/1.1"
    server_version = "wsi-engine"
    sys_version = ""
    timeout = SECONDS_OF_SILENCE
    # Headers and body are written apart; without this the second waits for the first's receipt.
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        """Answer with a file."""
        self._answer()

    do_HEAD = do_GET  # noqa: N815 - the library asks for such names

    def _refuse_method(self) -> None:
        # What the request carries is not read, so nothing else may come on this connection.
        self.close_connection = True
        text = "this view can only be read"
        self._send(HTTPStatus.METHOD_NOT_ALLOWED, text.encode(), extra={"Allow": READ_ONLY})

    do_POST = do_PUT = do_PATCH = do_DELETE = _refuse_method  # noqa: N815
    do_OPTIONS = do_TRACE = do_CONNECT = _refuse_method  # noqa: N815

    def _answer(self) -> None:
        if self.headers.get("Host") not in self.server.hosts:
            # A name that somebody made point to this machine: his page would be let in by it.
            self._tell(HTTPStatus.FORBIDDEN, "this is not the address of the view")
            return
        path, _, query = self.path.partition("?")
        given = parse_qs(query).get(TOKEN, [""])[0]
        if path == "/" and given:
            if self.server.knows(given):
                self._let_in()
            else:
                self._tell(HTTPStatus.FORBIDDEN, _WITHOUT_TOKEN)
            return
        if not self._is_let_in() or self.headers.get("Sec-Fetch-Site", "none") not in _OWN:
            self._tell(HTTPStatus.FORBIDDEN, _WITHOUT_TOKEN)
            return
        name = START_PAGE if path == "/" else path.removeprefix("/")
        try:
            content = self.server.content.get(name)
        except EngineError as error:
            self._tell(HTTPStatus.INTERNAL_SERVER_ERROR, str(error))
            return
        # Whatever is wrong with a file that somebody else wrote, the view goes on.
        except Exception:
            log.debug("%s cannot be made", name, exc_info=True)
            self._tell(HTTPStatus.INTERNAL_SERVER_ERROR, f"{name} cannot be made of this result")
            return
        if content is None:
            self._tell(HTTPStatus.NOT_FOUND, "there is no such file")
            return
        kind = TYPES[PurePosixPath(name).suffix]
        # What was fetched once is the same until the server ends; the page itself has a new token.
        keep = "private, max-age=86400" if name.startswith("data/") else "no-store"
        self._send(HTTPStatus.OK, content, kind, {"Cache-Control": keep})

    def _let_in(self) -> None:
        """Turn the token of the address into a cookie, and lead to an address without it."""
        cookie = f"{self.server.cookie}={self.server.token}; Path=/; HttpOnly; SameSite=Strict"
        extra = {"Set-Cookie": cookie, "Location": "/", "Cache-Control": "no-store"}
        self._send(HTTPStatus.SEE_OTHER, b"", extra=extra)

    def _is_let_in(self) -> bool:
        kind, _, secret = self.headers.get("Authorization", "").partition(" ")
        if kind == "Bearer" and self.server.knows(secret):
            return True
        try:
            cookies = SimpleCookie(self.headers.get("Cookie", ""))
        except CookieError:
            return False
        cookie = cookies.get(self.server.cookie)
        return cookie is not None and self.server.knows(cookie.value)

    def _tell(self, status: HTTPStatus, sentence: str) -> None:
        self._send(status, sentence.encode(), extra={"Cache-Control": "no-store"})

    def _send(
        self,
        status: HTTPStatus,
        content: bytes,
        kind: str = TYPES[".txt"],
        extra: dict[str, str] | None = None,
    ) -> None:
        self.send_response(status)
        headers = {"Content-Type": kind, "Content-Length": str(len(content))} | (extra or {})
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def end_headers(self) -> None:
        """Add what protects the page to every answer, errors of the library among them."""
        for name, value in HEADERS.items():
            self.send_header(name, value)
        super().end_headers()

    def log_message(self, format: str, *values: object) -> None:
        """Tell nobody: the address in the first line of a log would hold the token."""


_OWN = frozenset({"none", "same-origin"})
_WITHOUT_TOKEN = "open the address that `wsi-engine view` printed: it holds the token of this view"

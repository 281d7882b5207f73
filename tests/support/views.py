"""Views of results, and what is in their files."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path

import numpy as np

from wsi_engine.results.finished import SlideResult
from wsi_engine.results.slide_at_hand import slide_at_hand
from wsi_engine.view.content import ViewContent
from wsi_engine.view.looking import served
from wsi_engine.view.outline_tiles import STEPS_IN_PX
from wsi_engine.view.server import ViewServer


@contextmanager
def view_of(folder: Path) -> Iterator[ViewContent]:
    """Give the files of a view."""
    result = SlideResult(folder)
    with result.table, slide_at_hand(result, None) as slide:
        yield ViewContent(result, slide)


@contextmanager
def running(folder: Path) -> Iterator[ViewServer]:
    """Serve a view until the block ends."""
    with served(folder) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def request(
    server: ViewServer, path: str, method: str = "GET", **headers: str
) -> tuple[HTTPResponse, bytes]:
    """Ask the server on a connection of its own; headers have ``_`` for ``-``."""
    connection = HTTPConnection("127.0.0.1", server.server_port, timeout=30)
    try:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method, path, headers=named)
        answer = connection.getresponse()
        return answer, answer.read()
    finally:
        connection.close()


def points_in(content: bytes) -> tuple[np.ndarray, np.ndarray]:
    """Return the anchors, shape (n, 2), and the rows of a block."""
    count = len(content) // 12
    x, y = np.frombuffer(content, "<f4", 2 * count).reshape(2, count)
    return np.column_stack([x, y]), np.frombuffer(content, "<u4", count, 8 * count)


def outlines_in(content: bytes, corner: np.ndarray) -> dict[int, np.ndarray]:
    """Return the rings of a tile, in pixels of the slide, by places in the drawing order."""
    [count] = np.frombuffer(content, "<u4", 1)
    places = np.frombuffer(content, "<u4", count, 4)
    starts = np.frombuffer(content, "<u4", count + 1, 4 + 4 * count)
    xy = np.frombuffer(content, "<i2", offset=8 + 8 * count).reshape(-1, 2)
    assert starts[0] == 0
    assert starts[-1] == len(xy)
    parts = np.split(xy / STEPS_IN_PX + corner, starts[1:-1].astype(int))
    return dict(zip(places.tolist(), parts, strict=True))

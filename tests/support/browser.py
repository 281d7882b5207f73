"""A real browser without a window, told what to do by its DevTools protocol."""

from __future__ import annotations

import base64
import io
import itertools
import json
import os
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import websocket
from PIL import Image

FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-quic",
    "--no-first-run", "--disable-background-networking", "--disable-component-update",
    "--disable-sync", "--hide-scrollbars", "--remote-debugging-port=0",
    "--remote-allow-origins=*",
)  # fmt: skip

PATIENCE_S = 60.0


def find_chromium() -> str:
    """The browser; without it the test is skipped, but fails in CI."""
    path = shutil.which("chromium") or shutil.which("chromium-browser")
    if path is None:
        if os.environ.get("CI"):
            pytest.fail("chromium is not installed")
        pytest.skip("chromium is not here")
    return path


class Tab:
    """One page, with all that its console and its network said.

    Attributes
    ----------
    problems
        Errors on the console, breaches of the page's policy, answers that were no success.
    """

    def __init__(self, address: str) -> None:
        self._socket = websocket.create_connection(address, timeout=PATIENCE_S)
        self._numbers = itertools.count(1)
        self.problems: list[str] = []
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.tell(f"{domain}.enable")

    def tell(self, method: str, **parameters: object) -> dict[str, Any]:
        """Give an order and wait for its result; what else happens is noted meanwhile."""
        number = next(self._numbers)
        self._socket.send(json.dumps({"id": number, "method": method, "params": parameters}))
        while True:
            message = json.loads(self._socket.recv())
            if message.get("id") == number:
                assert "error" not in message, message
                return message["result"]
            self._note(message)

    def _note(self, message: dict[str, Any]) -> None:
        parameters = message.get("params", {})
        match message.get("method"):
            case "Runtime.exceptionThrown":
                self.problems.append(json.dumps(parameters["exceptionDetails"])[:500])
            case "Runtime.consoleAPICalled" if parameters["type"] in ("error", "warning"):
                self.problems.append(json.dumps(parameters["args"])[:500])
            case "Log.entryAdded" if parameters["entry"]["level"] in ("error", "warning"):
                self.problems.append(parameters["entry"]["text"])
            case "Network.responseReceived" if parameters["response"]["status"] >= 400:
                self.problems.append(parameters["response"]["url"])

    def size(self, width: int, height: int, ratio: float = 1.0) -> None:
        """Give the window a size in CSS pixels."""
        self.tell(
            "Emulation.setDeviceMetricsOverride",
            width=width, height=height, deviceScaleFactor=ratio, mobile=False,
        )  # fmt: skip

    def go(self, address: str) -> None:
        """Open an address."""
        self.tell("Page.navigate", url=address)

    def ask(self, script: str) -> Any:
        """Return the value of an expression in the page; promises are awaited."""
        result = self.tell(
            "Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True
        )
        assert "exceptionDetails" not in result, result["exceptionDetails"]
        return result["result"].get("value")

    def wait(self, condition: str) -> None:
        """Wait until an expression is true."""
        end = time.monotonic() + PATIENCE_S
        while not self.ask(f"Boolean({condition})"):
            assert time.monotonic() < end, f"never came true: {condition}"
            time.sleep(0.02)

    def click(self, x: float, y: float) -> None:
        """Press and release the mouse at a place in CSS pixels."""
        for kind in ("mouseMoved", "mousePressed", "mouseReleased"):
            self.tell("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def picture(self) -> np.ndarray:
        """Return what the window shows, shape (height, width, 3)."""
        png = base64.b64decode(self.tell("Page.captureScreenshot", format="png")["data"])
        with Image.open(io.BytesIO(png)) as image:
            return np.asarray(image.convert("RGB"))

    def close(self) -> None:
        self._socket.close()


@contextmanager
def open_tab(chromium: str, folder: Path, *flags: str) -> Iterator[Tab]:
    """Start a browser with a new profile, and give its tab."""
    profile = folder / "profile"
    process = subprocess.Popen(
        [chromium, *FLAGS, *flags, f"--user-data-dir={profile}", "about:blank"],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        tab = Tab(_address(profile / "DevToolsActivePort", process))
        try:
            yield tab
        finally:
            with suppress(websocket.WebSocketException, OSError):
                tab.tell("Browser.close")
            tab.close()
    finally:
        process.terminate()
        process.wait(20)


def _address(file: Path, process: subprocess.Popen[bytes]) -> str:
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        assert process.poll() is None, "the browser ended by itself"
        with suppress(OSError, ValueError, IndexError, StopIteration):
            port = int(file.read_text("utf-8").split()[0])
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/json", timeout=5) as answer:
                return next(
                    tab["webSocketDebuggerUrl"]
                    for tab in json.load(answer)
                    if tab["type"] == "page"
                )
        time.sleep(0.05)
    raise AssertionError("the browser did not open a port")

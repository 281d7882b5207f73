"""Reading a page as a browser would, and as one who mistrusts it."""

from __future__ import annotations

import base64
import io
import re
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
from PIL import Image

NO_END = frozenset({"meta", "link", "img", "br", "hr", "input"})
LOADING = frozenset({"src", "href", "xlink:href", "srcset", "action", "data", "poster", "style"})


class Page(HTMLParser):
    """A page that was parsed strictly.

    Attributes
    ----------
    images
        Every image of it, decoded.
    links
        Targets of ``<a>``.
    titles
        Accessible names of the drawings.
    words
        All visible text.
    scripts
        Content of the scripts.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(convert_charrefs=True)
        self.text = path.read_text(encoding="utf-8")
        self.images: list[np.ndarray] = []
        self.links: list[str] = []
        self.scripts: list[str] = []
        self.policy = ""
        self._open: list[str] = []
        self._words: list[str] = []
        self.feed(self.text)
        self.close()
        assert self._open == [], "every element is closed"
        # As XML, too: nothing in a drawing is left to a parser's mercy.
        drawings = re.findall(r"<svg.*?</svg>", self.text, re.S)
        self.drawings = [ElementTree.fromstring(text) for text in drawings]
        self.titles = [title.text for d in self.drawings if (title := d.find("title")) is not None]
        self.words = " ".join(" ".join(self._words).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        assert not [name for name in values if name.startswith("on")], "no script in attributes"
        if tag == "meta" and values.get("http-equiv") == "Content-Security-Policy":
            self.policy = values["content"]
        for name in LOADING & values.keys():
            self._look_at(tag, values[name])
        if tag == "img":
            assert values["alt"].strip()
        if tag not in NO_END:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        inside = self._open[-1] if self._open else ""
        if inside == "script":
            self.scripts.append(data)
        elif inside == "style":
            assert "url(" not in data
            assert "@import" not in data
        else:
            self._words.append(data)

    def _look_at(self, tag: str, target: str) -> None:
        if tag == "a":
            assert not re.match(r"[a-zA-Z][a-zA-Z0-9+.-]*:|//", target), "links stay in the folder"
            self.links.append(target)
        elif target != "data:,":
            head, _, content = target.partition(";base64,")
            assert head in ("data:image/png", "data:image/jpeg"), target[:80]
            with Image.open(io.BytesIO(base64.b64decode(content, validate=True))) as image:
                assert image.format == head.removeprefix("data:image/").upper()
                self.images.append(np.asarray(image.convert("RGB")))

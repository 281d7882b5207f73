"""JSON as QuPath reads it: with comments, single quotes, bare words and NaN.

QuPath's parser is Gson in its lenient mode, and QuPath 0.3 and 0.4 themselves wrote bare
``NaN``. What is proper JSON, nearly always, is parsed by orjson.
"""

from __future__ import annotations

import re
from typing import Any

import orjson

MAX_DEPTH = 1000
"""The deepest nesting that is read; a hierarchy of objects takes four for each generation."""


class JSONError(ValueError):
    """Some bytes are not JSON, not even leniently."""


def parse_json(raw: bytes) -> Any:
    """Parse one value; of members of one name the last counts.

    Raises
    ------
    JSONError
        If it is no JSON, no UTF-8, or nested deeper than `MAX_DEPTH`.
    """
    try:
        return orjson.loads(raw)
    except orjson.JSONDecodeError:
        pass
    try:
        text = raw.decode()
    except UnicodeDecodeError as error:
        raise JSONError(f"byte {error.start} is not UTF-8") from None
    return _parse(text)


_BLANK = r"(?:[ \t\r\n]+|//[^\r\n]*|\#[^\r\n]*|/\*(?s:.*?)\*/)*"
_TOKEN = re.compile(
    _BLANK
    + r"""(?:
        (?P<sign> [\[\]{},;:] | =>? )
      | "(?P<double> [^"\\]* (?: \\. [^"\\]* )* )"
      | '(?P<single> [^'\\]* (?: \\. [^'\\]* )* )'
      | (?P<word> [^/\\;\#={}\[\]:,\ \t\f\r\n"'] [^/\\;\#={}\[\]:,\ \t\f\r\n]* )
      | (?P<end> \Z )
    )""",
    re.VERBOSE | re.DOTALL,
)
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?")
_WORDS = {
    "true": True,
    "false": False,
    "null": None,
    "nan": float("nan"),
    "infinity": float("inf"),
    "-infinity": float("-inf"),
}
_ESCAPE = re.compile(r"\\(?:u([0-9a-fA-F]{4})|(.))", re.DOTALL)
_ESCAPED = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"} | {c: c for c in "\"'\\/\n"}

# What may stand next.
_VALUE, _FIRST_VALUE, _NAME, _FIRST_NAME, _COLON, _SEPARATOR = range(6)


def _parse(text: str) -> Any:
    """Parse without recursion: hostile nesting must not exhaust the stack."""
    document: list[Any] = []
    stack: list[list[Any] | dict[str, Any]] = [document]
    names: list[str] = []
    expected = _FIRST_VALUE
    position = 0
    while True:
        match = _TOKEN.match(text, position)
        if match is None:
            raise JSONError(f"character {position} begins nothing that JSON knows")
        position = match.end()
        kind, token = str(match.lastgroup), match[match.lastgroup or 0]
        sign = token if kind == "sign" else ""
        top = stack[-1]
        within = top if isinstance(top, list) and top is not document else None
        if kind == "end":
            if top is not document or not document:
                raise JSONError("it ends too early")
            return document[0]
        if top is document and document:
            raise JSONError(f"something follows its end at character {match.start(kind)}")
        if expected == _SEPARATOR and sign in (",", ";"):
            expected = _VALUE if isinstance(top, list) else _NAME
        elif expected in (_SEPARATOR, _FIRST_NAME) and sign == "}" and isinstance(top, dict):
            stack.pop()
            expected = _SEPARATOR
        elif within is not None and sign == "]":
            if expected == _VALUE:
                # As Gson has it: a comma before the bracket is followed by null.
                within.append(None)
            stack.pop()
            expected = _SEPARATOR
        elif expected in (_NAME, _FIRST_NAME) and not sign:
            names.append(_text(token) if kind != "word" else token)
            expected = _COLON
        elif expected == _COLON and sign in (":", "=", "=>"):
            expected = _VALUE
        elif within is not None and expected in (_VALUE, _FIRST_VALUE) and sign in (",", ";"):
            within.append(None)
            expected = _VALUE
        elif expected in (_VALUE, _FIRST_VALUE) and (not sign or sign in ("[", "{")):
            value: Any = _new(sign) if sign else _scalar(kind, token)
            if isinstance(top, list):
                top.append(value)
            else:
                top[names.pop()] = value
            expected = _SEPARATOR
            if sign:
                stack.append(value)
                expected = _FIRST_VALUE if sign == "[" else _FIRST_NAME
                if len(stack) > MAX_DEPTH:
                    raise JSONError(f"it is nested deeper than {MAX_DEPTH}")
        else:
            raise JSONError(f"character {match.start(kind)}, {token[:20]!r}, does not belong there")


def _new(bracket: str) -> list[Any] | dict[str, Any]:
    return [] if bracket == "[" else {}


def _scalar(kind: str, token: str) -> Any:
    if kind != "word":
        return _text(token)
    number = _NUMBER.fullmatch(token)
    if number is None:
        return _WORDS.get(token.lower(), token)
    whole = number[1] is None and number[2] is None and len(token) < 19
    return int(token) if whole else float(token)


def _text(token: str) -> str:
    if "\\" not in token:
        return token
    text = _ESCAPE.sub(_unescaped, token)
    # Joins surrogates in pairs; one alone is no character.
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _unescaped(match: re.Match[str]) -> str:
    if match[1]:
        return chr(int(match[1], 16))
    if match[2] not in _ESCAPED:
        raise JSONError(f"\\{match[2]} is no escape")
    return _ESCAPED[match[2]]

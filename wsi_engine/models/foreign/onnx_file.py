"""What an ONNX file says of itself, read from its bytes before a runtime sees it.

An ONNX file is a protocol buffer. It may name other files for its weights, by any path: those are
looked for here, as deep as graphs lie in graphs, so that a file that names some is refused, and
what a result rests on is in one file. The numbers of the fields are those of ``onnx.proto``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType

MODEL, GRAPH, NODE, ATTRIBUTE = "ModelProto", "GraphProto", "NodeProto", "AttributeProto"
TENSOR, SPARSE, FUNCTION = "TensorProto", "SparseTensorProto", "FunctionProto"
TRAINING = "TrainingInfoProto"

WITHIN: Mapping[str, Mapping[int, str]] = MappingProxyType(
    {
        MODEL: {7: GRAPH, 20: TRAINING, 25: FUNCTION},
        TRAINING: {1: GRAPH, 2: GRAPH},
        GRAPH: {1: NODE, 5: TENSOR, 15: SPARSE},
        NODE: {5: ATTRIBUTE},
        ATTRIBUTE: {5: TENSOR, 6: GRAPH, 10: TENSOR, 11: GRAPH, 22: SPARSE, 23: SPARSE},
        SPARSE: {1: TENSOR, 2: TENSOR},
        FUNCTION: {7: NODE, 11: ATTRIBUTE},
        TENSOR: {},
    }
)
"""Messages that hold tensors, by the number of their field."""

EXTERNAL_DATA, DATA_LOCATION = 13, 14
"""Fields of a tensor that say that its values are in another file."""

DEEPEST = 60


def objection_to(content: bytes) -> str | None:
    """Say why an ONNX file is not loaded; ``None`` if nothing speaks against it.

    Parameters
    ----------
    content
        The whole file.
    """
    view = memoryview(content)
    try:
        if not any(number == 7 for number, _ in _fields(view)):
            return "it is no ONNX, as it holds no graph"
        if _names_files(view, MODEL, 0):
            return "its weights are in another file: save it with all data in one"
    except (ValueError, IndexError):
        return "it is damaged, cut off, or no ONNX"
    return None


def _names_files(message: memoryview, kind: str, depth: int) -> bool:
    if depth > DEEPEST:
        raise ValueError("nested too deep")
    for number, value in _fields(message):
        if kind == TENSOR and (number == EXTERNAL_DATA or (number == DATA_LOCATION and value != 0)):
            return True
        inner = WITHIN[kind].get(number)
        if inner is None:
            continue
        if isinstance(value, int):
            raise ValueError("a number where a message should be")  # noqa: TRY004
        if _names_files(value, inner, depth + 1):
            return True
    return False


def _fields(message: memoryview) -> Iterator[tuple[int, memoryview | int]]:
    """Yield the fields of a message: their number, and their bytes or value."""
    at = 0
    while at < len(message):
        key, at = _varint(message, at)
        number, wire = key >> 3, key & 7
        if wire == 0:
            value, at = _varint(message, at)
            yield number, value
            continue
        size = {1: 8, 5: 4}.get(wire, 0)
        if wire == 2:
            size, at = _varint(message, at)
        elif size == 0:
            raise ValueError("a field of no known kind")
        if number == 0 or at + size > len(message):
            raise ValueError("cut off")
        yield number, message[at : at + size]
        at += size


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        byte = message[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
    raise ValueError("a number of more than ten bytes")

"""What a TorchScript file would do when it is loaded and run, found out without doing it.

Such a file holds a program, which torch's own interpreter runs: it knows tensors and numbers and no
Python. But it has operators that write and read files, and methods that run while a file is loaded
(``__setstate__``). So its code, which is Python by its syntax, is parsed here, and a file that
calls anything beyond arithmetic is never given to torch.
"""

from __future__ import annotations

import ast
import io
import zipfile
import zlib

LARGEST_CODE = 50_000_000
"""Bytes of code after decompression; that of a network is some thousands."""

NAMESPACES = {"aten", "prim", "quantized", "torchvision"}
"""Families of operators that a network may use beside torch's own."""

BEYOND_ARITHMETIC = {
    *("save", "load", "from_file", "load_tensor"),
    *("fork", "wait", "awaitable", "awaitable_wait"),
    *("rpc_async", "rpc_sync", "rpc_remote"),
    *("__setstate__", "__getattr__", "classes", "hub", "jit"),
}
"""Names that no network needs, and that reach files or other threads, or run unasked."""


def objection_to(content: bytes) -> str | None:
    """Say why a TorchScript file is not loaded; ``None`` if nothing speaks against it.

    Parameters
    ----------
    content
        The whole file.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            members = archive.infolist()
            code = [each for each in members if each.filename.endswith(".py")]
            if sum(each.file_size for each in code) > LARGEST_CODE:
                return "it holds more code than a network has"
            if any(each.filename.endswith("model.json") for each in members):
                return "it is of the form that torch wrote before 1.4: save it again"
            if not any("/code/" in each.filename for each in code):
                return "it holds no TorchScript: save the network with torch.jit.script or trace"
            # Names in the archive are what torch looks up, so no two may be the same.
            if len({each.filename for each in members}) < len(members):
                return "it holds two members of one name"
            texts = [archive.read(each).decode() for each in code]
    except (zipfile.BadZipFile, zlib.error, OSError, ValueError, EOFError, NotImplementedError):
        return "it is damaged, cut off, or no TorchScript"
    for text in texts:
        try:
            called = _beyond_arithmetic(ast.parse(text))
        except (SyntaxError, RecursionError, MemoryError):
            return "its code cannot be read"
        if called is not None:
            return f"it calls {called}, which is more than arithmetic"
    return None


def _beyond_arithmetic(tree: ast.AST) -> str | None:
    """Name something in the code of a network that reaches beyond it."""
    for node in ast.walk(tree):
        match node:
            case ast.Attribute(attr=name) if name in BEYOND_ARITHMETIC:
                return name
            case ast.FunctionDef(name=name) if name in BEYOND_ARITHMETIC:
                return name
            case ast.Attribute(ast.Name("ops"), name) if name not in NAMESPACES:
                return f"ops.{name}"
            case ast.Name(name) if name in BEYOND_ARITHMETIC:
                return name
    return None

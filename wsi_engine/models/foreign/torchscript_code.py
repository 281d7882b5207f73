"""What a TorchScript file would do when it is loaded and run, found out without doing it.

Such a file holds a program, which torch's own interpreter runs: it knows tensors and numbers and no
Python. But it has operators that write and read files, and methods that run while a file is loaded
(``__setstate__``). So its code, which is Python by its syntax, is parsed here, and a file that
calls anything beyond arithmetic is never given to torch.
"""

from __future__ import annotations

import ast
import io
import re
import zipfile
import zlib

MOST_BYTES_PER_BYTE = 20
"""How much larger than the file its members may be: torch compresses nothing but code."""

NAMESPACES = {"aten", "prim", "quantized", "torchvision"}
"""Families of operators and classes that a network may use beside torch's own."""

BEYOND_ARITHMETIC = {
    *("save", "from_file", "load_tensor", "read_file", "write_file"),
    *("rpc_async", "rpc_sync", "rpc_remote"),
    *("__setstate__", "__getattr__"),
}
"""Names that no network needs: they reach files or other machines, or run unasked."""

ROOTS = {"torch", "ops", "__torch__"}
"""Where operators and classes hang."""

_CUSTOM_CLASS = re.compile(rb"torch\.classes\.(\w+)")


class CodeError(ValueError):
    """Why a file is not loaded; its text completes "it is not loaded: it ..."."""


def looked_at(content: bytes) -> bytes:
    """Return a TorchScript file packed anew, from the very members that were looked at.

    Readers of archives differ in what they find in a damaged or crafted one; of what is
    returned here torch finds the same.

    Parameters
    ----------
    content
        The whole file.

    Raises
    ------
    CodeError
        When it is none, or damaged, or does more than a network does.
    """
    try:
        members = _members(content)
    except (zipfile.BadZipFile, zlib.error, OSError, ValueError, EOFError, RuntimeError) as error:
        if isinstance(error, CodeError):
            raise
        raise CodeError("it is damaged, cut off, or no TorchScript") from None
    names = [name.lower() for name in members]
    # Torch does not tell capitals from others.
    if len(set(names)) < len(names):
        raise CodeError("it holds two members of one name")
    if any(name.endswith("model.json") for name in names):
        raise CodeError("it is of the form that torch wrote before 1.4: save it again")
    if not any("/code/" in name for name in names):
        raise CodeError("it holds no TorchScript: save the network with torch.jit")
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name, value in members.items():
            if "/code/" in name.lower() and not name.endswith(".debug_pkl"):
                require_arithmetic(value)
            elif name.lower().endswith(".pkl"):
                _require_known_classes(value)
            archive.writestr(name, value)
    return packed.getvalue()


def require_arithmetic(code: bytes) -> None:
    """Raise `CodeError` if the code of a network reaches beyond it."""
    try:
        tree = ast.parse(code.decode())
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise CodeError("its code cannot be read") from None
    parents = {child: node for node in ast.walk(tree) for child in ast.iter_child_nodes(node)}
    for node in ast.walk(tree):
        called = _beyond(node, parents.get(node))
        if called is not None:
            raise CodeError(f"it calls {called}, which is more than arithmetic")


def _beyond(node: ast.AST, parent: ast.AST | None) -> str | None:
    """Name what a node of the code reaches that no network needs."""
    match node:
        case ast.Attribute(attr=name) | ast.FunctionDef(name=name) if name in BEYOND_ARITHMETIC:
            return name
        case ast.Constant(value=str(name)) if name in BEYOND_ARITHMETIC | ROOTS:
            return name  # getattr takes names as texts
        case ast.Name(id=name) if name in ROOTS and not isinstance(parent, ast.Attribute):
            return name  # under another name it could not be followed
        case ast.Attribute(ast.Name("ops"), name) if name not in NAMESPACES:
            return f"ops.{name}"
        case ast.Attribute(
            ast.Attribute(ast.Attribute(ast.Name("__torch__"), "torch"), "classes"), name
        ) if name not in NAMESPACES:
            return f"torch.classes.{name}"
    return None


def _require_known_classes(pickled: bytes) -> None:
    for name in _CUSTOM_CLASS.findall(pickled):
        if name.decode() not in NAMESPACES:
            raise CodeError(f"it holds a torch.classes.{name.decode()}")


def _members(content: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        listed = archive.infolist()
        if sum(each.file_size for each in listed) > MOST_BYTES_PER_BYTE * len(content):
            raise CodeError("it is larger inside than a network is")
        if len({each.filename for each in listed}) < len(listed):
            raise CodeError("it holds two members of one name")
        return {each.filename: archive.read(each) for each in listed}

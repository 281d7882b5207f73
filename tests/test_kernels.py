"""What takes numba long to compile is in no kernel of a default run: a first run waits for it."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import wsi_engine

PACKAGE = Path(wsi_engine.__file__).parent
FILES = [
    *sorted((PACKAGE / "nuclei" / "measure").glob("*.py")),
    PACKAGE / "models" / "suppression.py",
    PACKAGE / "models" / "starconvex" / "decoding.py",
]
QUICK = {"empty", "int64", "int32", "float32"}
"""What of numpy compiles in some hundredths of a second."""


def kernels(path: Path) -> list[ast.FunctionDef]:
    """Return the functions of a file that numba compiles."""
    functions = [node for node in ast.parse(path.read_text("utf-8")).body if _is_kernel(node)]
    return [node for node in functions if isinstance(node, ast.FunctionDef)]


def _is_kernel(node: ast.stmt) -> bool:
    decorators = node.decorator_list if isinstance(node, ast.FunctionDef) else []
    return any("kernel" in ast.unparse(decorator) for decorator in decorators)


def slow_calls(kernel: ast.FunctionDef) -> set[str]:
    """Return the calls in a kernel that go through whole arrays."""
    within = [node for statement in kernel.body for node in ast.walk(statement)]
    calls = [node.func for node in within if isinstance(node, ast.Call)]
    attributes = [call for call in calls if isinstance(call, ast.Attribute)]
    return {
        ast.unparse(call)
        for call in attributes
        if ast.unparse(call.value) != "math"
        and not (ast.unparse(call.value) == "np" and call.attr in QUICK)
    }


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_kernels_call_nothing_that_goes_through_whole_arrays(path: Path) -> None:
    assert {kernel.name: slow_calls(kernel) for kernel in kernels(path) if slow_calls(kernel)} == {}


def test_the_kernels_are_found_and_so_are_slow_calls_in_them() -> None:
    assert sum(len(kernels(path)) for path in FILES) > 30
    slow = "@kernel\ndef f(x):\n    return np.median(x) + x.max() + np.empty(2)[0]"
    (kernel,) = ast.parse(slow).body
    assert isinstance(kernel, ast.FunctionDef)
    assert slow_calls(kernel) == {"np.median", "x.max"}

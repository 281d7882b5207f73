"""How loops over pixels and vertices are compiled."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba

_COMPILED = numba.njit(nogil=True, cache=True, error_model="numpy", no_cfunc_wrapper=True)


def kernel(function: Callable[..., Any]) -> Any:
    """Let numba compile a function at its first call, and keep what it made for later processes.

    Other threads run beside it. Division by zero gives infinity or NaN, as in numpy. It cannot be
    passed on as a pointer for C: without that, and without a check at each division, a first run
    compiles for a tenth less time.
    """
    return _COMPILED(function)

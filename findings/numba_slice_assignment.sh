#!/usr/bin/env bash
# Assigning to a slice within a numba kernel costs seconds of compilation, the same loop none.
#
# Versions   numba 0.65.1 with llvmlite 0.47.0 and numpy 2.4.3
# Behaviour  `rows[k, :] = values` and a loop over the columns do the same to the same arrays. The
#            slice brings in broadcasting, overlap and iteration for any number of dimensions: eight
#            times the LLVM code, and some twenty times the time to compile, which each user of a
#            cached kernel pays at the first call, and everybody without a cache at every start.
# Seen       slice: 1.9 s and 182,000 characters of LLVM, loop: 0.1 s and 22,000
# Exits with another status than 0 once that changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv env
env/bin/pip install --quiet --disable-pip-version-check numba==0.65.1 llvmlite==0.47.0 numpy==2.4.3
env/bin/python - <<'PYTHON'
import time

import numba
import numpy as np


@numba.njit
def warmed_up(values):
    values[0] = 1.0


@numba.njit
def by_slice(rows, values):
    for k in range(rows.shape[0]):
        rows[k, :] = values


@numba.njit
def by_loop(rows, values):
    for k in range(rows.shape[0]):
        for j in range(values.shape[0]):
            rows[k, j] = values[j]


def compiled(kernel):
    began = time.process_time()
    kernel.compile((numba.float64[:, ::1], numba.float64[::1]))
    seconds = time.process_time() - began
    return seconds, sum(len(code) for code in kernel.inspect_llvm().values())


warmed_up(np.zeros(3))
slice_s, slice_llvm = compiled(by_slice)
loop_s, loop_llvm = compiled(by_loop)
one, other, values = np.zeros((5, 3)), np.zeros((5, 3)), np.arange(3.0)
by_slice(one, values)
by_loop(other, values)
assert (one == other).all()
print(
    f"slice: {slice_s:.1f} s and {slice_llvm:,} characters of LLVM, "
    f"loop: {loop_s:.1f} s and {loop_llvm:,}"
)
assert slice_llvm > 4 * loop_llvm
assert slice_s > 5 * loop_s
PYTHON

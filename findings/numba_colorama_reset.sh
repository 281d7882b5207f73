#!/usr/bin/env bash
# Where colorama is installed, a numba kernel that compiles well ends the program with an escape sequence.
#
# Versions   numba 0.65.1 with llvmlite 0.47.0, numpy 2.4.3 and colorama 0.4.6
# Behaviour  While it types a function numba raises and catches errors of its own, and colours their
#            messages: `ColorShell` calls `colorama.init()`, which registers `reset_all` for the end of
#            the process. A terminal then gets ESC[0m from a program that printed nothing. mkdocs-material
#            and many others bring colorama along, so it comes and goes with what else is installed.
# Seen       a terminal shows ESC[0m, and nothing with NUMBA_DISABLE_ERROR_MESSAGE_HIGHLIGHTING=1
# Exits with another status than 0 once that changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv env
env/bin/pip install --quiet --disable-pip-version-check numba==0.65.1 llvmlite==0.47.0 numpy==2.4.3 colorama==0.4.6
cat > silent.py <<'PYTHON'
import numba
import numpy as np


@numba.njit
def mean(values):
    return np.zeros(values.shape[0])[::2].sum() + values.mean()


mean(np.ones(3))
PYTHON
cat > watched.py <<'PYTHON'
import os
import pty
import sys

seen = bytearray()


def read(file):
    data = os.read(file, 1024)
    seen.extend(data)
    return data


def on_terminal():
    seen.clear()
    assert pty.spawn([sys.executable, "silent.py"], read) == 0
    return bytes(seen)


coloured = on_terminal()
os.environ["NUMBA_DISABLE_ERROR_MESSAGE_HIGHLIGHTING"] = "1"
plain = on_terminal()
print(f"a kernel that compiles well: {coloured!r}, without highlighting: {plain!r}")
assert coloured == b"\x1b[0m"
assert plain == b""
PYTHON
env/bin/python watched.py

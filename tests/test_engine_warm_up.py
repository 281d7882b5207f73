"""`warm-up`: after it nothing that runs on a slide is left to be compiled."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from wsi_engine.sample import SampleTruth

SLIDE_AFTER_PRACTICE = """
import sys
from numba.core.dispatcher import Dispatcher
from wsi_engine.engine.warm_up import warm_up
from wsi_engine.engine.run import run

def compiled():
    return {
        (kernel.py_func.__qualname__, signature)
        for name, module in [*sys.modules.items()]
        if name.startswith("wsi_engine")
        for kernel in vars(module).values()
        if isinstance(kernel, Dispatcher)
        for signature in kernel.signatures
    }

settings = {"device": "cpu", "compile": "never"}
warm_up(None, **settings)
before = compiled()
run(sys.argv[1], sys.argv[2], **settings)
print(len(before), *[name for name, _ in compiled() - before])
"""


def test_after_practice_every_kernel_is_compiled(sample: SampleTruth, tmp_path: Path):
    command = [sys.executable, "-c", SLIDE_AFTER_PRACTICE, sample.slide_path, tmp_path / "out"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    count, *compiled_later = done.stdout.split()
    assert int(count) > 10
    assert compiled_later == []

"""The same settings give the same result, or the version of results is another."""

from __future__ import annotations

import numpy as np
import pytest

from tests.support.golden import ADVICE, golden, methods, observed
from wsi_engine.engine.plan import RESULT_VERSION

TOLERANCE_PX = 0.25
"""How far rounding may move a centre on another processor."""


def test_the_golden_file_is_that_of_this_version_of_results():
    assert golden()["result_version"] == RESULT_VERSION, ADVICE
    assert golden().keys() - {"result_version"} == set(methods()), ADVICE


@pytest.mark.parametrize("method", methods())
def test_a_method_finds_what_it_found(method: str):
    now, kept = observed(method), golden()[method]
    assert now.get("digest") == kept.get("digest"), ADVICE
    assert len(now["centres_px"]) == len(kept["centres_px"]) > 20, ADVICE
    moved = np.abs(np.subtract(now["centres_px"], kept["centres_px"]))
    assert moved.max() < TOLERANCE_PX, ADVICE
    assert now["means"].keys() == kept["means"].keys(), ADVICE
    assert now["means"] == pytest.approx(kept["means"], rel=2e-3, abs=1e-4, nan_ok=True), ADVICE

"""Identity: a nucleus has the same name in every run, and no two have the same."""

from __future__ import annotations

import uuid

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wsi_engine.nuclei.identity import ENGINE_NAMESPACE, namespace_of, nucleus_ids

NAMESPACE = namespace_of("0123abcd", "watershed")
hundredths = st.integers(-(10**8), 10**8)


@settings(deadline=None)
@given(st.lists(st.tuples(hundredths, hundredths)), st.uuids())
def test_ids_are_the_uuid5_of_the_position_in_hundredths(positions, namespace):
    """What the standard library makes of RFC 9562, version 5, only faster."""
    anchors = np.array(positions, np.float64).reshape(-1, 2) / 100
    expected = [str(uuid.uuid5(namespace, f"{x},{y}")) for x, y in positions]
    assert nucleus_ids(namespace, anchors) == expected


def test_ids_are_uuids_of_version_5_as_qupath_keeps_them():
    for text in nucleus_ids(NAMESPACE, np.random.default_rng(0).uniform(0, 1e5, (200, 2))):
        parsed = uuid.UUID(text)
        assert (parsed.version, parsed.variant) == (5, uuid.RFC_4122)
        assert str(parsed) == text


def test_ids_never_change():
    """Files on users' disks hold these."""
    assert str(ENGINE_NAMESPACE) == "8ff43aab-887e-5994-9d2c-26d3a57efc13"
    (name,) = nucleus_ids(NAMESPACE, np.array([[12.34, 5.6]]))
    assert name == "004f97f5-b9cb-5dbf-b4c4-90c19943290a"


def test_positions_on_one_slide_have_different_ids():
    anchors = np.stack(np.meshgrid(np.arange(300), np.arange(300)), -1).reshape(-1, 2) / 100
    assert len(set(nucleus_ids(NAMESPACE, anchors))) == len(anchors)


@pytest.mark.parametrize(
    "other",
    [namespace_of("0123abce", "watershed"), namespace_of("0123abcd", "hovernet_fast-pannuke")],
    ids=["slide", "model"],
)
def test_another_slide_or_model_gives_other_ids(other):
    anchors = np.array([[1.0, 2.0], [3.0, 4.0]])
    assert not set(nucleus_ids(NAMESPACE, anchors)) & set(nucleus_ids(other, anchors))


def test_noise_below_a_hundredth_does_not_rename_a_nucleus():
    anchors = np.array([[1.23, 4.56], [70000.01, 0.0], [0.1 + 0.2, 0.29]])
    assert nucleus_ids(NAMESPACE, anchors) == nucleus_ids(NAMESPACE, anchors + 1e-9)


def test_none_has_no_id():
    assert nucleus_ids(NAMESPACE, np.empty((0, 2))) == []

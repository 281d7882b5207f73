"""Names for nuclei that stay the same from run to run."""

from __future__ import annotations

import hashlib
import uuid

import numpy as np
import numpy.typing as npt

ENGINE_NAMESPACE = uuid.uuid5(uuid.NAMESPACE_DNS, "wsi-engine")


def namespace_of(slide_fingerprint: str, model: str) -> uuid.UUID:
    """Return the namespace of the nuclei that one model finds on one slide."""
    return uuid.uuid5(ENGINE_NAMESPACE, f"{slide_fingerprint}/{model}")


def nucleus_ids(namespace: uuid.UUID, anchors: npt.NDArray[np.float64]) -> list[str]:
    """Name nuclei by their position: UUIDs of version 5 (RFC 9562).

    Parameters
    ----------
    namespace
        Namespace of slide and model.
    anchors
        float64, shape (n, 2), in QuPath pixels; hundredths count.
    """
    ids = []
    prefix = hashlib.sha1(namespace.bytes, usedforsecurity=False)
    for x, y in np.round(anchors * 100).astype(np.int64).tolist():
        digest = prefix.copy()
        digest.update(b"%d,%d" % (x, y))
        h = digest.hexdigest()
        variant = "89ab"[int(h[16], 16) & 3]
        ids.append(f"{h[:8]}-{h[8:12]}-5{h[13:16]}-{variant}{h[17:20]}-{h[20:32]}")
    return ids

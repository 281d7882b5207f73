"""A forest of decision trees as plain arrays, walked without the library that grew it.

Method: Breiman, Machine Learning 45 (2001), 5-32.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from wsi_engine.kernels import kernel


@dataclass(frozen=True, eq=False)
class Forest:
    """Trees laid end to end; in each, children come after their parent.

    Attributes
    ----------
    roots
        int64, shape (t + 1,): tree k has the nodes ``roots[k]`` to ``roots[k + 1] - 1``.
    left, right
        int32, shape (n,): children of each node, -1 for those of a leaf.
    feature
        int32, shape (n,): the feature that a node looks at.
    threshold
        float64, shape (n,): a pixel goes to the left where the feature is at most that.
    probabilities
        float64, shape (n, classes): what a leaf says; scores of any sign where trees are added up.
    """

    roots: npt.NDArray[np.int64]
    left: npt.NDArray[np.int32]
    right: npt.NDArray[np.int32]
    feature: npt.NDArray[np.int32]
    threshold: npt.NDArray[np.float64]
    probabilities: npt.NDArray[np.float64]

    @classmethod
    def grown(cls, trees: Sequence[Any]) -> Self:
        """Take the trees of scikit-learn's forest, each a ``sklearn.tree._tree.Tree``."""
        starts = np.cumsum([0, *(tree.node_count for tree in trees)])

        def moved(children: npt.NDArray[np.int64], start: int) -> npt.NDArray[np.int64]:
            return np.where(children < 0, -1, children + start)

        pairs = list(zip(trees, starts[:-1].tolist(), strict=True))
        return cls(
            roots=starts.astype(np.int64),
            left=np.concatenate([moved(t.children_left, s) for t, s in pairs]).astype(np.int32),
            right=np.concatenate([moved(t.children_right, s) for t, s in pairs]).astype(np.int32),
            feature=np.concatenate([np.maximum(t.feature, 0) for t in trees]).astype(np.int32),
            threshold=np.concatenate([t.threshold for t in trees]).astype(np.float64),
            probabilities=np.concatenate([t.value[:, 0] for t in trees]).astype(np.float64),
        )

    @classmethod
    def of_arrays(
        cls,
        arrays: Mapping[str, npt.NDArray[Any]],
        features: int,
        classes: int,
        *,
        highest: float = 1.0,
        lowest: float = 0.0,
    ) -> Self:
        """Take the arrays of a file, which anybody may have written.

        Parameters
        ----------
        arrays
            By the names of the attributes.
        features, classes
            How many of them there are.
        highest, lowest
            What a leaf may say.

        Raises
        ------
        ValueError
            When they are no forest; a walk through one ends and stays in the arrays.
        """
        kinds = {"roots": np.int64, "threshold": np.float64, "probabilities": np.float64}
        for field in fields(cls):
            if arrays[field.name].dtype != kinds.get(field.name, np.int32):
                raise ValueError(f"{field.name} is of type {arrays[field.name].dtype}")
        forest = cls(**{field.name: arrays[field.name] for field in fields(cls)})
        said = forest.probabilities
        if not (
            forest._is_whole(features, classes) and ((said >= lowest) & (said <= highest)).all()
        ):
            raise ValueError("its trees are broken")
        return forest

    def _is_whole(self, features: int, classes: int) -> bool:
        nodes, starts = len(self.left), self.roots
        shapes = {array.shape for array in (self.left, self.right, self.feature, self.threshold)}
        if shapes != {(nodes,)} or self.probabilities.shape != (nodes, classes):
            return False
        if starts.ndim != 1 or len(starts) < 2 or starts[0] != 0 or starts[-1] != nodes:
            return False
        if (np.diff(starts) < 1).any():
            return False
        inner, place = self.left >= 0, np.arange(nodes)
        ends = np.repeat(starts[1:], np.diff(starts))
        goes_on = all(
            ((child > place) & (child < ends))[inner].all() for child in (self.left, self.right)
        )
        return bool(
            goes_on
            and ((self.feature >= 0) & (self.feature < features)).all()
            and np.isfinite(self.threshold).all()
        )

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """Return the arrays by the names of the attributes."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def predict(self, features: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
        """Return the mean of what the trees say, to the last bit scikit-learn's ``predict_proba``.

        Parameters
        ----------
        features
            float32, shape (p, features).

        Returns
        -------
        ndarray
            float64, shape (p, classes).
        """
        said = self.total(features)
        said /= len(self.roots) - 1
        return said

    def total(self, features: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
        """Return the sum of what the trees say, float64, shape (p, classes), as `predict` does."""
        said = np.zeros((len(features), self.probabilities.shape[1]))
        _walk(
            np.ascontiguousarray(features, np.float32),
            self.roots,
            self.left,
            self.right,
            self.feature,
            self.threshold,
            self.probabilities,
            said,
        )
        return said


@kernel
def _walk(
    features: npt.NDArray[np.float32],
    roots: npt.NDArray[np.int64],
    left: npt.NDArray[np.int32],
    right: npt.NDArray[np.int32],
    feature: npt.NDArray[np.int32],
    threshold: npt.NDArray[np.float64],
    probabilities: npt.NDArray[np.float64],
    said: npt.NDArray[np.float64],
) -> None:
    """Add what each tree says of each pixel; tree by tree, so that one stays in the cache."""
    for tree in range(len(roots) - 1):
        for pixel in range(len(features)):
            node = np.int64(roots[tree])
            while left[node] >= 0:
                if features[pixel, feature[node]] <= threshold[node]:
                    node = np.int64(left[node])
                else:
                    node = np.int64(right[node])
            for k in range(said.shape[1]):
                said[pixel, k] += probabilities[node, k]

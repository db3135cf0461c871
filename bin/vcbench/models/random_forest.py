"""Random forest from encoder vectors to profiles, stored as tables and not as code (metrics.md 6.4).

A forest's prediction is a weighted mean of the training targets: each tree gives the training perturbations of the leaf
a new vector falls into (as often as they were drawn for the tree), and the trees are averaged. So splits are searched
for a few principal components of the profiles, and whole profiles are predicted with the very weights.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from vcbench.core.seeds import derive
from vcbench.models.base import Prediction, PredictionRequest, TrainingData
from vcbench.models.decomposition import decompose
from vcbench.models.tabular import Tabular, choose, folds, targets

if TYPE_CHECKING:
    from sklearn.ensemble import RandomForestRegressor


class RandomForest(Tabular):
    """scikit-learn's random forest on principal components of vectors and profiles.

    `min_samples_leaf` and `max_features` are chosen by cross-validation with smaller forests (`selection_trees`),
    smallest squared error of the profiles' components. A constant encoder leaves nothing to split: every tree predicts
    the mean of its draws, and the forest the train mean up to that noise.
    """

    name = "random_forest"

    def fit(self, data: TrainingData, seed: int, device: str) -> list[dict[str, object]]:
        """Choose the settings, then grow the forest on all training perturbations."""
        self.positive("trees", "selection_trees", "min_samples_leaf", "max_features", "vector_components", "components")
        vectors, profiles = self.inputs(data)
        grid = [
            {"min_samples_leaf": leaf, "max_features": share}
            for leaf in sorted(set(self.settings["min_samples_leaf"]), reverse=True)
            for share in sorted(set(self.settings["max_features"]))
        ]
        limit, k = self.settings["vector_components"], self.settings["components"]
        errors = np.full(len(grid), np.nan)
        for key, held in folds(data, seed) if len(grid) > 1 else ():
            errors = np.nan_to_num(errors)
            side, goal = decompose(vectors[~held], limit), targets(data, profiles[~held], key, k)
            wanted = _filled(goal.project(profiles[held]))
            for index, candidate in enumerate(grid):
                forest = _grown(side.scores, goal.scores, self.settings["selection_trees"], seed, candidate)
                new = _inputs(side.project(vectors[held]))
                errors[index] += np.sum((forest.predict(new).reshape(wanted.shape) - wanted) ** 2)
        best, rows = choose(grid, errors / profiles.size)
        side, goal = decompose(vectors, limit), targets(data, profiles, "all", k)
        forest = _grown(side.scores, goal.scores, self.settings["trees"], seed, grid[best])
        self.tensors = {
            "profiles": profiles,
            "vector_axes": side.axes,
            "vector_mean": side.mean,
            **tables(forest, _inputs(side.scores)),
        }
        self.facts = {"genes": list(data.genes), "width": vectors.shape[1], **grid[best]}
        return rows

    def predict(self, request: PredictionRequest, seed: int, device: str) -> Prediction:
        """Return the weighted means of the training profiles."""
        tensors = self.tensors
        scores = (self.vectors(request) - tensors["vector_mean"]) @ tensors["vector_axes"].T
        inputs = _inputs(scores)
        return self.profiles(request, weights(tensors, inputs) @ tensors["profiles"])


def _filled(scores: np.ndarray) -> np.ndarray:
    """Return scores of components; where nothing varies, a single constant column stands for none."""
    return scores if scores.shape[1] else np.zeros((len(scores), 1))


def _inputs(scores: np.ndarray) -> np.ndarray:
    """Return the inputs of a forest, float32 as scikit-learn compares them with its thresholds."""
    return _filled(scores).astype(np.float32)


def _grown(
    scores: np.ndarray, goal: np.ndarray, trees: int, seed: int, candidate: dict[str, object]
) -> RandomForestRegressor:
    from sklearn.ensemble import RandomForestRegressor

    forest = RandomForestRegressor(trees, random_state=derive(seed, "random forest") % 2**32, **candidate)
    goal = _filled(goal)
    return forest.fit(_inputs(scores), goal if goal.shape[1] > 1 else goal[:, 0])


def tables(forest: RandomForestRegressor, inputs: np.ndarray) -> dict[str, np.ndarray]:
    """Return a fitted forest as arrays.

    Nodes of all trees one after another: `feature` (-1 in a leaf), `threshold` (go left when value <= threshold),
    `left`, `right` (node numbers over all trees), `roots` (trees,). `drawn` (trees, n) counts how often each training
    perturbation was drawn for a tree, `leaf` (trees, n) is the leaf it falls into.
    """
    trees = [estimator.tree_ for estimator in forest.estimators_]
    roots = np.concatenate([[0], np.cumsum([tree.node_count for tree in trees])])[:-1]
    samples = forest.estimators_samples_

    def joined(name: str, shift: bool) -> np.ndarray:
        parts = [getattr(tree, name) for tree in trees]
        if shift:
            parts = [np.where(part < 0, -1, part + root) for part, root in zip(parts, roots, strict=True)]
        return np.concatenate(parts)

    left = joined("children_left", True)
    return {
        "feature": np.where(left < 0, -1, joined("feature", False)).astype(np.int32),
        "threshold": joined("threshold", False),
        "left": left.astype(np.int32),
        "right": joined("children_right", True).astype(np.int32),
        "roots": roots.astype(np.int32),
        "drawn": np.array([np.bincount(sample, minlength=len(inputs)) for sample in samples]).astype(np.int32),
        "leaf": (forest.apply(inputs).T + roots[:, None]).astype(np.int32),
    }


def weights(tensors: dict[str, np.ndarray], inputs: np.ndarray) -> np.ndarray:
    """Return the (rows, n) weights of the training perturbations for new inputs (rows, r) float32; rows sum to 1."""
    total = np.zeros((len(inputs), tensors["leaf"].shape[1]))
    for root, drawn, leaf in zip(tensors["roots"], tensors["drawn"], tensors["leaf"], strict=True):
        node = np.full(len(inputs), root)
        while (inner := tensors["feature"][node] >= 0).any():
            rows, at = inner.nonzero()[0], node[inner]
            goes_left = inputs[rows, tensors["feature"][at]] <= tensors["threshold"][at]
            node[rows] = np.where(goes_left, tensors["left"][at], tensors["right"][at])
        members = drawn * (leaf == node[:, None])
        total += members / members.sum(axis=1, keepdims=True)
    return total / len(tensors["roots"])


MODEL = RandomForest

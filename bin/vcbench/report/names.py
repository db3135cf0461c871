"""What things are called in the report: catalogue titles, metrics, configurations."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vcbench.core import catalogue
from vcbench.core.units import NO_ENCODER

#: Gene sets in words.
GENE_SETS = {
    "all": "all genes",
    "expr": "expressed genes",
    "expr_nt": "expressed genes",
    "sig_nt": "all significant genes",
    "de20_nt": "20 most changed genes",
    "de50_nt": "50 most changed genes",
    "de100_nt": "100 most changed genes",
    "eligible": "reliable genes",
    "listed": "listed genes",
}
STRATEGIES = {
    "alt": "the vector of the changed protein (or gene)",
    "diff": "reference vector minus changed vector",
    "ref": "the reference vector only",
}
SPLITS = {
    "variant": "held-out perturbations; their residue or gene may also occur in training",
    "position": "held-out residues; no residue occurs in both training and test",
}


#: Reasons for an undefined value in words.
STATUSES = {
    "missing_pred": "not predicted",
    "const_pred": "the prediction does not differ from the reference",
    "const_true": "the measurement does not differ from the reference",
    "few_genes": "too few genes",
    "few_cells": "too few cells",
    "no_cells": "a profile where cells are needed",
    "no_class": "no class known",
    "no_double": "not a combination of two",
    "no_single": "a part of the combination was not measured",
    "sign_mismatch": "weights of opposite signs",
    "no_de": "no significantly changed gene",
    "all_de": "every gene changed significantly",
    "single_pert": "only one perturbation to choose from",
    "no_control": "no control cells",
}


def reasons(text: str) -> str:
    """Return ``const_pred:60;few_cells:2`` in words: what makes a value undefined, and how often."""
    parts = [part.rpartition(":") if ":" in part else (part, "", "") for part in text.split(";") if part]
    words = [STATUSES.get(name, name) + (f" ({n})" if n else "") for name, _, n in parts]
    return "undefined: " + ("; ".join(words) or "no reason recorded")


@dataclass(frozen=True, order=True)
class Configuration:
    """A model with the encoder and strategy it was given; seeds and folds are pooled."""

    model: str
    encoder: str
    strategy: str


@dataclass(frozen=True)
class Metric:
    """A metric on a gene set, as the report names it."""

    id: str
    gene_set: str
    title: str
    explanation: str
    lower_is_better: bool
    compat: bool

    @property
    def key(self) -> str:
        """Column name, e.g. ``dpearson_pm__expr_nt``."""
        return f"{self.id}__{self.gene_set}" if self.gene_set else self.id

    @property
    def full_title(self) -> str:
        """Title with the genes it is computed on."""
        genes = GENE_SETS.get(self.gene_set, self.gene_set)
        return self.title if self.compat or not genes or "genes" in self.title else f"{self.title}, {genes}"

    def better(self, difference: float) -> bool:
        """Return whether a difference (model minus reference) favours the model."""
        return difference < 0 if self.lower_is_better else difference > 0


@dataclass(frozen=True)
class Names:
    """Titles and classes from the three catalogues."""

    models: dict[str, Any]
    encoders: dict[str, Any]
    metrics: dict[str, Any]
    groups: dict[str, Any]
    diagnostics: dict[str, Any]

    @classmethod
    def load(cls, assets: Path, encoders: Iterable[str] = (), models: Iterable[str] = ()) -> Names:
        """Read the catalogues; those of the run's `encoders` and `models` that are in none are files of the user."""
        metrics = catalogue.load("metrics", assets)
        known = catalogue.load("encoders", assets)
        own = sorted(set(encoders) - {NO_ENCODER, *known["entries"]})
        known_models = catalogue.load("models", assets)
        external = sorted(set(models) - set(known_models["entries"]))
        return cls(
            models=catalogue.with_external(known_models, external)["entries"],
            encoders=catalogue.with_own(known, own)["entries"],
            metrics=metrics["entries"],
            groups=metrics["groups"],
            diagnostics=metrics["diagnostics"],
        )

    def model(self, name: str) -> str:
        """Return a model's title; a name outside the catalogue (a prediction made elsewhere) stands for itself."""
        return self.models.get(name, {}).get("title", name)

    def encoder(self, name: str) -> str:
        """Return an encoder's title."""
        return "no encoder" if name == NO_ENCODER else self.encoders.get(name, {}).get("title", name)

    def configuration(self, configuration: Configuration) -> str:
        """Return e.g. ``scLAMBDA · ESM2 650M · diff``; models that ignore the encoder are named alone."""
        if configuration.encoder == NO_ENCODER:
            return self.model(configuration.model)
        return f"{self.model(configuration.model)} · {self.encoder(configuration.encoder)} · {configuration.strategy}"

    def is_baseline(self, configuration: Configuration) -> bool:
        """Return whether the model is a simple rule that every model must beat."""
        return self.models.get(configuration.model, {}).get("class") == "baseline"

    def is_control_input(self, configuration: Configuration) -> bool:
        """Return whether the model was given a control encoder (random, one-hot, ...)."""
        return self.encoders.get(configuration.encoder, {}).get("class") == "control"

    def metric(self, name: str, gene_set: str) -> Metric:
        """Return a metric by catalogue id and gene set."""
        entry = self.metrics.get(name, {})
        return Metric(
            id=name,
            gene_set=gene_set,
            title=entry.get("title", name),
            explanation=entry.get("explain", entry.get("explanation", "")),
            lower_is_better=entry.get("direction") == "lower",
            compat=entry.get("group") == "bench_compat",
        )

    def primary(self) -> Metric:
        """Return the one metric models are ranked and tested by."""
        name = self.groups["primary"][0]
        return self.metric(name, self.metrics[name]["headline"][0])

    def headline(self) -> list[Metric]:
        """Return the headline metrics in catalogue order, the primary one first, its companion second."""
        leading = [*self.groups["primary"], *self.groups.get("companion", [])]
        ordered = [*leading, *(name for name in self.groups["headline"] if name not in leading)]
        return [self.metric(name, genes) for name in ordered for genes in self.metrics[name].get("headline", [])]

    def bench_compat(self, present: Iterable[tuple[str, str]]) -> list[Metric]:
        """Return the columns with VariantCellBench's own formulas among the (metric, gene set) pairs present.

        The gene set is the name of the list used, so the catalogue alone does not know it.
        """
        pairs = sorted(set(present))
        names = self.groups.get("bench_compat", [])
        return [self.metric(name, genes) for name in names for metric, genes in pairs if metric == name]

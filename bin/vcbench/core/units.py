"""The unit of work: dataset x split x fold x model x encoder x strategy x seed."""

from __future__ import annotations

import re
from dataclasses import dataclass

from vcbench.core.errors import InputError
from vcbench.core.evaluators import TRAINED_ON

#: Encoder and strategy of a model that ignores the encoder.
NO_ENCODER = "none"

_UNIT = re.compile(
    r"(?P<dataset>[^.]+)\.(?P<split>[^.]+)\.f(?P<fold>\d+)\.(?P<model>[^.]+)\.(?P<encoder>[^.]+)\.(?P<strategy>[^.]+)\.s(?P<seed>\d+)"
    r"(?:\.(?P<trained_on>[pn]\d+))?"
)

#: What a unit of the learning curve was trained on: `p250` = 250 per mille of its training perturbations, `n20` = 20.
ALL = ""
PER_MILLE, COUNT = "p", "n"


@dataclass(frozen=True, order=True)
class Unit:
    """One planned fit: trained once, predicted once, scored once."""

    dataset: str
    split: str
    fold: int
    model: str
    encoder: str
    strategy: str
    seed: int
    trained_on: str = ALL

    @property
    def id(self) -> str:
        """``dataset.split.fN.model.encoder.strategy.sN[.p250]``, also the stem of its files."""
        name = f"{self.dataset}.{self.split}.f{self.fold}.{self.model}.{self.encoder}.{self.strategy}.s{self.seed}"
        return f"{name}.{self.trained_on}" if self.trained_on else name

    @property
    def scored_as(self) -> str:
        """Model id of its rows in the score table: ``trained_on:p250:linear`` for a unit of the learning curve."""
        return f"{TRAINED_ON}:{self.trained_on}:{self.model}" if self.trained_on else self.model

    @classmethod
    def parse(cls, unit_id: str) -> Unit:
        """Return the unit of an id; raises :class:`InputError` when it is not one."""
        match = _UNIT.fullmatch(unit_id)
        if match is None:
            raise InputError("not a unit id", where=unit_id, expected="dataset.split.fN.model.encoder.strategy.sN")
        parts = match.groupdict()
        numbers = {"fold": int(parts["fold"]), "seed": int(parts["seed"])}
        return cls(**{**parts, **numbers, "trained_on": parts["trained_on"] or ALL})

    @classmethod
    def scored(cls, dataset: str, split: str, fold: int, model: str, encoder: str, strategy: str, seed: int) -> Unit:
        """Return the unit of a row of the score table, where its model stands as :attr:`scored_as`."""
        trained_on = ALL
        if model.startswith("trained_on:"):
            _, trained_on, model = model.split(":", 2)
        return cls(dataset, split, fold, model, encoder, strategy, seed, trained_on)


def subset_size(trained_on: str, n: int) -> int:
    """Return how many of n training perturbations a unit is trained on: at least one, at most all."""
    if not trained_on:
        return n
    number = int(trained_on[1:])
    return max(1, min(n, number if trained_on[0] == COUNT else -(-n * number // 1000)))

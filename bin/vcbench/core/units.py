"""The unit of work: dataset x split x fold x model x encoder x strategy x seed."""

from __future__ import annotations

import re
from dataclasses import dataclass

from vcbench.core.errors import InputError

#: Encoder and strategy of a model that ignores the encoder.
NO_ENCODER = "none"

_UNIT = re.compile(
    r"(?P<dataset>[^.]+)\.(?P<split>[^.]+)\.f(?P<fold>\d+)\.(?P<model>[^.]+)\.(?P<encoder>[^.]+)\.(?P<strategy>[^.]+)\.s(?P<seed>\d+)"
)


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

    @property
    def id(self) -> str:
        """``dataset.split.fN.model.encoder.strategy.sN``, also the stem of its files."""
        return f"{self.dataset}.{self.split}.f{self.fold}.{self.model}.{self.encoder}.{self.strategy}.s{self.seed}"

    @classmethod
    def parse(cls, unit_id: str) -> Unit:
        """Return the unit of an id; raises :class:`InputError` when it is not one."""
        match = _UNIT.fullmatch(unit_id)
        if match is None:
            raise InputError("not a unit id", where=unit_id, expected="dataset.split.fN.model.encoder.strategy.sN")
        parts = match.groupdict()
        return cls(**{**parts, "fold": int(parts["fold"]), "seed": int(parts["seed"])})

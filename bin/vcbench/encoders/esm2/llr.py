"""Zero-shot log-likelihood ratios of ESM2: one number per variant, without any training on cells.

Masked marginals (Meier et al., NeurIPS 2021, doi:10.1101/2021.07.09.450648): the mutated position of the wild type is
masked, and LLR = log p(alt) - log p(ref) at the mask, in nats. Several mutations: the sum over their positions, each
masked on its own in the wild type, so mutations are taken as independent.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence

import numpy as np

from vcbench.core.errors import ModelError
from vcbench.core.hashing import sha256_text
from vcbench.encoders.base import Encoded
from vcbench.encoders.esm2 import head, tokens
from vcbench.encoders.plm import batching
from vcbench.encoders.plm.encoder import Plan, PlmEncoder
from vcbench.encoders.requests import Request
from vcbench.variants.record import Change

log = logging.getLogger(__name__)

#: One pass: the residues of a window of the wild type, and the 0-based index of the masked one.
Masked = tuple[str, int]

FACTS = {
    "score": "masked-marginal log-likelihood ratio, log p(alt) - log p(ref) in nats",
    "several_mutations": "sum over positions, each masked on its own in the wild type",
}


class LlrEncoder(PlmEncoder):
    """ALT = LLR in one column, REF = 0, hence DIFF = -LLR; settings `max_residues`, `batch_tokens`, `dtype`."""

    def encode(self, requests: Sequence[Request]) -> Encoded:
        """Return the LLR of every request as ALT, (requests, 1) float32; wild type and synonymous are exactly 0.

        One pass per distinct mutated position and window, shared by all variants there.
        """
        plans = [self.plan(request, "position") for request in requests]
        self.network.check()
        parts = [_parts(request, each) for request, each in zip(requests, plans, strict=True)]
        scores = self._scores(masked for row in parts for masked, _ in row)
        alt = np.zeros((len(requests), 1), np.float32)
        for row, changes in enumerate(parts):
            alt[row] = sum(_ratio(scores[masked], change) for masked, change in changes)
        facts = {**self._facts(), **FACTS, "pooling": "position"}
        return Encoded(alt, np.zeros_like(alt), ("llr",), ("variant",), facts, self._rows(plans))

    def _scores(self, wanted: Iterable[Masked]) -> dict[Masked, np.ndarray]:
        """Run every distinct pass once and return the (33,) float32 scores at its mask."""
        order = sorted(set(wanted), key=lambda masked: (len(masked[0]), sha256_text(masked[0]), masked[1]))
        lengths = [len(sequence) + tokens.LAYOUT.special for sequence, _ in order]
        log.info("%s: %d passes", self.context.name, len(order))
        found: dict[Masked, np.ndarray] = {}
        for batch, scores in batching.run(order, lengths, self.batch_tokens, self._forward):
            if not np.isfinite(scores).all():
                raise ModelError(f"{self.context.name} gives values that are not finite")
            found |= dict(zip(batch, scores, strict=True))
            self.passes += len(batch)
        return found

    def _forward(self, batch: Sequence[Masked]) -> np.ndarray:
        """Return the scores at the masks, (batch, 33) float32."""
        rows = list(range(len(batch)))
        columns = [tokens.LAYOUT.token_index(index + 1) for _, index in batch]
        ids = tokens.LAYOUT.batch([sequence for sequence, _ in batch])
        ids[rows, columns] = tokens.MASK
        hidden = self.network.run(ids)[-1][rows, columns]
        return head.scores(self.network.model, hidden).cpu().numpy()


def _parts(request: Request, plan: Plan | None) -> list[tuple[Masked, Change]]:
    """Return the mutations that change something, each with the pass that scores it."""
    if plan is None:
        return []
    return [
        ((readout.window.sequence, readout.first), change)
        for readout, change in zip(plan.ref, request.substitutions, strict=True)
        if change.ref != change.alt
    ]


def _ratio(scores: np.ndarray, change: Change) -> float:
    """Return log p(alt) - log p(ref) in nats; the normaliser of the probabilities cancels."""
    return float(scores[tokens.IDS[change.alt]]) - float(scores[tokens.IDS[change.ref]])


ENCODER = LlrEncoder

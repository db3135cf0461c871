"""The ESM2 encoder: last-layer vectors at the mutated residues (specs: plm_encoders.md 2.1, 6.2).

Every distinct window of sequence goes through the network once: N mutants and one reference are N + 1 passes; a
synonymous variant reuses the reference row; several mutations are one joint mutant, averaged over the positions.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from vcbench.core import checkpoint as files
from vcbench.core.device import resolve
from vcbench.core.errors import InputError, ModelError
from vcbench.core.hashing import sha256_text
from vcbench.encoders import batching, esm2_tokens, esm2_weights, windows
from vcbench.encoders.base import Context, Encoded
from vcbench.encoders.requests import Request

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Residue:
    """One residue in one window of sequence; `index` is 0-based within the window."""

    window: str
    index: int


@dataclass(frozen=True)
class Plan:
    """Where the vectors of a variant come from: per position its tile and its residue before and after mutation."""

    starts: tuple[int, ...]
    length: int
    ref: tuple[Residue, ...]
    alt: tuple[Residue, ...]


class Esm2Encoder:
    """ESM2 with local weights; settings `max_residues` and `batch_tokens`."""

    def __init__(self, context: Context) -> None:
        self.context = context
        if context.weights is None:
            raise InputError(
                f"{context.name} needs weights", where="--weights", found="nothing",
                hint=files.where_to_get(context.entry, f"DIR/{context.name} and pass --weights DIR"),
            )  # fmt: skip
        device = resolve(context.device)
        folder = files.folder_of(context.weights, context.entry)
        self.weights = esm2_weights.load(folder, context.entry, device)
        esm2_tokens.check_library(folder / "vocab.txt")
        self._check_rows()
        if not self.weights.facts["official_size"]:
            log.warning(
                "%s: not the sizes of the published model: %s in %s", context.name, self.weights.facts["sizes"], folder
            )
        self.passes = 0

    def encode(self, requests: Sequence[Request]) -> Encoded:
        """Return REF and ALT at the mutated residues, (requests, D) float32; wild type rows are zero (no residue)."""
        plans = [
            None if request.is_wild_type else plan(request, self.context.settings["max_residues"])
            for request in requests
        ]
        vectors = self._vectors(residue for each in plans if each for residue in (*each.ref, *each.alt))
        shape = (len(requests), self.weights.width)
        ref, alt = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
        for row, (request, each) in enumerate(zip(requests, plans, strict=True)):
            if each is None:
                continue
            ref[row] = mean([vectors[residue] for residue in each.ref])
            alt[row] = mean([vectors[residue] for residue in each.alt])
            if request.changes_protein and np.array_equal(ref[row], alt[row]):
                raise ModelError(f"{self.context.name} gives the wild-type vector for {request.key}")
        return Encoded(
            alt,
            ref,
            tuple(f"dim_{column}" for column in range(shape[1])),
            ("variant",) * shape[1],
            {
                **self.weights.facts,
                "library": f"transformers {self.weights.facts['transformers']} EsmModel",
                "prefix": "<cls>",
                "residue_replacements": "none",
                "token_layout": esm2_tokens.LAYOUT,
                "window_policy": windows.POLICY,
                "max_residues": self.context.settings["max_residues"],
                "n_passes": self.passes,
                "device": self.context.device,
                "deterministic": self.context.device == "cpu",
            },
            _rows(plans),
        )

    def _vectors(self, wanted: Iterable[Residue]) -> dict[Residue, np.ndarray]:
        """Run every distinct window once and return the (D,) float32 vector of each wanted residue."""
        indices: dict[str, set[int]] = {}
        for residue in wanted:
            indices.setdefault(residue.window, set()).add(residue.index)
        # length first, so that batches hold equal lengths; then the hash, so that the order of requests is irrelevant
        order = sorted(indices, key=lambda window: (len(window), sha256_text(window)))
        lengths = [len(window) + esm2_tokens.SPECIAL_TOKENS for window in order]
        log.info("%s: %d passes", self.context.name, len(order))
        found: dict[Residue, np.ndarray] = {}
        for batch, hidden in batching.run(order, lengths, self.context.settings["batch_tokens"], self._hidden):
            residues = [(row, Residue(window, index)) for row, window in enumerate(batch) for index in indices[window]]
            rows = [row for row, _ in residues]
            columns = [esm2_tokens.token_index(residue.index + 1) for _, residue in residues]
            vectors = hidden[rows, columns].float().cpu().numpy()  # one transfer per batch
            if not np.isfinite(vectors).all():
                raise ModelError(f"{self.context.name} gives values that are not finite")
            found |= {residue: vector for (_, residue), vector in zip(residues, vectors, strict=True)}
            self.passes += len(batch)
        return found

    def _hidden(self, batch: Sequence[str]):  # -> torch.Tensor, imported late
        ids = [esm2_tokens.token_ids(window) for window in batch]
        padded = np.full((len(ids), max(map(len, ids))), esm2_tokens.PAD, dtype=np.int64)
        for row, tokens in enumerate(ids):
            padded[row, : len(tokens)] = tokens
        return self.weights.hidden(padded)[0]

    def _check_rows(self) -> None:
        """Start-up assertion: one hidden row per token id."""
        shape = tuple(self._hidden([esm2_tokens.RESIDUES]).shape)
        if shape != (1, len(esm2_tokens.RESIDUES) + esm2_tokens.SPECIAL_TOKENS, self.weights.width):
            raise ModelError(f"{self.context.name}: hidden states have shape {shape}")


def plan(request: Request, max_residues: int) -> Plan:
    """Return which residues of which windows the vectors of a variant are read from."""
    positions = [change.pos for change in request.substitutions]
    length = len(request.sequence)
    starts = windows.assign(positions, length, max_residues)
    mutant = request.mutant()

    def residues(sequence: str) -> tuple[Residue, ...]:
        return tuple(
            Residue(sequence[start : start + max_residues], position - 1 - start)
            for start, position in zip(starts, positions, strict=True)
        )

    return Plan(starts, min(length, max_residues), residues(request.sequence), residues(mutant))


def mean(vectors: Sequence[np.ndarray]) -> np.ndarray:
    """Return the mean of (D,) vectors, added up in float64; a single vector is returned unchanged."""
    return vectors[0] if len(vectors) == 1 else np.mean(vectors, axis=0, dtype=np.float64).astype(np.float32)


def _rows(plans: Sequence[Plan | None]) -> dict[str, list[str]]:
    """Return the window columns of `obs`: window_start and token_index count from 0, pos_in_window from 1."""
    columns: dict[str, list[str]] = {
        name: [] for name in ("window_start", "window_len", "token_index", "pos_in_window")
    }
    for each in plans:
        inside = [residue.index + 1 for residue in each.ref] if each else []
        columns["window_start"].append(";".join(map(str, each.starts)) if each else "")
        columns["window_len"].append(str(each.length) if each else "")
        columns["token_index"].append(";".join(str(esm2_tokens.token_index(position)) for position in inside))
        columns["pos_in_window"].append(";".join(map(str, inside)))
    return columns

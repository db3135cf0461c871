"""A protein language model as an encoder: vectors at the mutated residues (specs: plm_encoders.md 1.5, 2, 6.2).

Every distinct window of sequence goes through the network once: N mutants and one reference are N + 1 passes; a
synonymous variant reuses the reference row; several mutations are one joint mutant, averaged over the positions.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from vcbench.core import checkpoint as files
from vcbench.core.device import resolve
from vcbench.core.errors import InputError, ModelError
from vcbench.core.hashing import sha256_text
from vcbench.encoders.base import Context, Encoded
from vcbench.encoders.plm import batching, windows
from vcbench.encoders.plm.network import Network, Window
from vcbench.encoders.plm.weights import family, open_weights
from vcbench.encoders.requests import Request

log = logging.getLogger(__name__)

POOLINGS = ("position", "mean")

#: Tokens per pass on a CPU, at most. A few hundred rows already keep it busy, and with more of them every intermediate
#: result is fetched anew from the operating system, page by page: slower, and more memory.
CPU_TOKENS = 1024


@dataclass(frozen=True)
class Readout:
    """One vector to read from a pass: the mean over the residues ``first`` to ``stop`` - 1, 0-based in the window."""

    window: Window
    first: int
    stop: int


@dataclass(frozen=True)
class Plan:
    """Where the vectors of a request come from: its tiles and what to read before and after mutation.

    Pooling ``position``: a tile per mutated position. Pooling ``mean``: all tiles of the protein. `inside` are the
    positions in their tiles, counted from 1; none when several tiles hold a position.
    """

    starts: tuple[int, ...]
    length: int
    inside: tuple[int, ...]
    ref: tuple[Readout, ...]
    alt: tuple[Readout, ...]


class PlmEncoder:
    """An encoder of the catalogue that has a `family`; settings `max_residues`, `batch_tokens`, `dtype`, `pooling`."""

    def __init__(self, context: Context) -> None:
        self.context = context
        if context.weights is None:
            raise InputError(
                f"{context.name} needs weights", where="--weights", found="nothing",
                hint=files.where_to_get(context.entry, f"DIR/{context.name} and pass --weights DIR"),
            )  # fmt: skip
        folder = files.folder_of(context.weights, context.entry)
        self.weights = open_weights(folder, context.entry, context.settings["dtype"])
        device = resolve(context.device)
        self.network: Network = family(context.entry).build(self.weights, context.settings, device, context.inputs)
        tokens = context.settings["batch_tokens"]
        self.batch_tokens = min(tokens, CPU_TOKENS) if device == "cpu" else tokens
        if not self.weights.facts["official_size"]:
            log.warning("%s: not the sizes of the published model in %s", context.name, folder)
        self.passes = 0

    def encode(self, requests: Sequence[Request]) -> Encoded:
        """Return REF and ALT vectors, (requests, D) float32.

        Pooling ``position``: of the mutated residues; wild type rows are zero, for they have no residue. Pooling
        ``mean``: over all residues of the protein, in as many tiles as it needs; a wild type row is the mean of the
        wild type.
        """
        pooling = self.context.settings["pooling"]
        for request in requests:
            self._check_letters(request)
        plans = [self.plan(request, pooling) for request in requests]
        self.network.check()
        vectors = self._vectors(readout for each in plans if each for readout in (*each.ref, *each.alt))
        shape = (len(requests), self.network.width)
        ref, alt = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
        for row, (request, each) in enumerate(zip(requests, plans, strict=True)):
            if each is None:
                continue
            ref[row], alt[row] = (mean(vectors, readouts) for readouts in (each.ref, each.alt))
            if request.changes_protein and np.array_equal(ref[row], alt[row]):
                raise ModelError(f"{self.context.name} gives the wild-type vector for {request.name}")
        return Encoded(
            alt,
            ref,
            tuple(f"dim_{column}" for column in range(shape[1])),
            ("variant",) * shape[1],
            {**self._facts(), "pooling": pooling, "window_policy": windows.POLICIES[pooling]},
            self._rows(plans),
        )

    def _check_letters(self, request: Request) -> None:
        """Raise :class:`InputError` for a variant whose mutant the network reads as the wild type (ProtT5: U2X)."""
        layout = getattr(self.network, "layout", None)
        replacements = layout.replacements if layout else {}
        changes = [change for change in request.substitutions if change.ref != change.alt]
        read = [
            (replacements.get(change.ref, change.ref), replacements.get(change.alt, change.alt)) for change in changes
        ]
        if changes and all(old == new for old, new in read):
            same = " and ".join(
                f"{change.ref} and {change.alt} both as {new}" for change, (_, new) in zip(changes, read, strict=True)
            )
            raise InputError(
                f"{self.context.name} reads {same}, so that the mutant is the wild type", where=request.name,
                hint="leave this variant out, or this encoder",
            )  # fmt: skip

    def _facts(self) -> dict[str, object]:
        """Return the provenance of weights, network and passes; call it after the passes."""
        return {
            **self.weights.facts,
            **self.network.facts,
            "window_policy": windows.POLICIES["position"],
            "max_residues": self.context.settings["max_residues"],
            "n_passes": self.passes,
            "device": self.context.device,
            "deterministic": self.context.device == "cpu",
        }

    def plan(self, request: Request, pooling: str) -> Plan | None:
        """Return what to read for a request; None for the wild type under pooling ``position``."""
        limit, length = self.context.settings["max_residues"], len(request.sequence)
        positions = tuple(change.pos for change in request.substitutions)
        if pooling == "mean":
            tiles = windows.shares(length, limit)
        elif positions:
            starts = windows.assign(positions, length, limit)
            tiles = [(start, position - 1, position) for start, position in zip(starts, positions, strict=True)]
        else:
            return None

        def readouts(sequence: str) -> tuple[Readout, ...]:
            return tuple(
                Readout(
                    self.network.window(sequence[start : start + limit], request.sequence, start),
                    first - start,
                    stop - start,
                )
                for start, first, stop in tiles
            )

        ref, alt = readouts(request.sequence), readouts(request.mutant())
        starts = tuple(start for start, _, _ in tiles)
        if pooling == "mean":
            inside = positions if len(tiles) == 1 else ()  # the only tile starts at 0
        else:
            inside = tuple(position - start for position, start in zip(positions, starts, strict=True))
        return Plan(starts, min(length, limit), inside, ref, alt)

    def _vectors(self, wanted: Iterable[Readout]) -> dict[Readout, np.ndarray]:
        """Run every distinct window once and return the (D,) float32 vector of each readout."""
        spans: dict[Window, set[tuple[int, int]]] = {}
        for readout in wanted:
            spans.setdefault(readout.window, set()).add((readout.first, readout.stop))
        # length first, so that batches hold equal lengths; then the hash, so that the order of requests is irrelevant
        order = sorted(
            spans,
            key=lambda window: (
                self.network.tokens(window),
                window.protein,
                window.start,
                sha256_text(window.sequence),
            ),
        )
        lengths = [self.network.tokens(window) for window in order]
        log.info("%s: %d passes", self.context.name, sum(map(self.network.passes, order)))
        found: dict[Readout, np.ndarray] = {}
        for batch, hidden in batching.run(order, lengths, self.batch_tokens, self.network.hidden):
            vectors = self._read(hidden, batch, spans)
            if not all(np.isfinite(vector).all() for vector in vectors.values()):
                raise ModelError(f"{self.context.name} gives values that are not finite")
            found |= vectors
            self.passes += sum(map(self.network.passes, batch))
        return found

    def _read(self, hidden, batch: Sequence[Window], spans) -> dict[Readout, np.ndarray]:
        wanted = [(row, Readout(window, *span)) for row, window in enumerate(batch) for span in sorted(spans[window])]
        residues = [(row, readout) for row, readout in wanted if readout.stop - readout.first == 1]
        rows = [row for row, _ in residues]
        columns = [self.network.token_index(readout.first + 1) for _, readout in residues]
        vectors = hidden[rows, columns].float().cpu().numpy()  # one transfer per batch
        found = {readout: vector for (_, readout), vector in zip(residues, vectors, strict=True)}
        for row, readout in wanted:
            if readout not in found:
                first = self.network.token_index(1)
                states = hidden[row, first + readout.first : first + readout.stop]
                found[readout] = states.double().mean(dim=0).float().cpu().numpy()
        return found

    def _rows(self, plans: Sequence[Plan | None]) -> dict[str, list[str]]:
        """Return the window columns of `obs`: window_start and token_index count from 0, pos_in_window from 1."""
        columns: dict[str, list[str]] = {
            name: [] for name in ("window_start", "window_len", "token_index", "pos_in_window")
        }
        for each in plans:
            inside = each.inside if each else ()
            columns["window_start"].append(";".join(map(str, each.starts)) if each else "")
            columns["window_len"].append(str(each.length) if each else "")
            columns["token_index"].append(";".join(str(self.network.token_index(position)) for position in inside))
            columns["pos_in_window"].append(";".join(map(str, inside)))
        return columns


ENCODER = PlmEncoder


def mean(vectors: Mapping[Readout, np.ndarray], readouts: Sequence[Readout]) -> np.ndarray:
    """Return the (D,) mean over the residues of several readouts, in float64; a single vector is returned unchanged."""
    if len(readouts) == 1:
        return vectors[readouts[0]]
    total = np.sum([vectors[each].astype(np.float64) * (each.stop - each.first) for each in readouts], axis=0)
    return (total / sum(each.stop - each.first for each in readouts)).astype(np.float32)

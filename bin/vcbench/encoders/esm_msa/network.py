"""ESM-MSA-1b: the official fair-esm file strictly into our MSA Transformer, and its passes (specs: 2.2, 6.2, 7.5).

One pass is one window of a protein with the homologs of its alignment below it; only the protein's row is mutated.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vcbench.core import checkpoint as files
from vcbench.core.errors import InputError, ModelError
from vcbench.core.hashing import sha256_text
from vcbench.encoders.esm_msa import tokens
from vcbench.encoders.esm_msa.alignments import HOW_TO, Alignment, Alignments
from vcbench.encoders.esm_msa.selection import RANDOM, select
from vcbench.encoders.plm.network import Window
from vcbench.encoders.plm.shapes import shapes_only
from vcbench.encoders.plm.weights import Official, Weights

if TYPE_CHECKING:
    import torch

log = logging.getLogger(__name__)

ARCHITECTURE = "msa_transformer"
SIZES = ("layers", "embed_dim", "attention_heads", "ffn_embed_dim")

#: The learned positions: columns with `<cls>`, and rows.
MAX_COLUMNS = MAX_ROWS = 1024

#: Prefix of the published tensor names.
PREFIX = "encoder.sentence_encoder."

#: Tensors that the states do not depend on, by their name without prefix, and why.
UNUSED = {
    "lm_head.weight": "head for masked letters (the embedding matrix again)",
    "lm_head.bias": "head for masked letters",
    "lm_head.dense.weight": "head for masked letters",
    "lm_head.dense.bias": "head for masked letters",
    "lm_head.layer_norm.weight": "head for masked letters",
    "lm_head.layer_norm.bias": "head for masked letters",
    "contact_head.regression.weight": "contact prediction head",
    "contact_head.regression.bias": "contact prediction head",
}


@dataclass(frozen=True)
class Tile:
    """The homologs of a window: `ids` (rows, residues) uint8, row 0 the protein, and the rows of each sample."""

    ids: np.ndarray
    samples: list[np.ndarray]


class EsmMsaNetwork:
    """A loaded ESM-MSA-1b with the alignments of its proteins; hidden states are those of the protein's row."""

    def __init__(self, model: torch.nn.Module, settings: Mapping[str, Any], alignments: Alignments | None) -> None:
        self.model = model
        self.width: int = model.width
        self.settings = settings
        self.alignments = alignments
        self._found: dict[str, Alignment | None] = {}
        self._tiles: dict[tuple[str, int, int], Tile] = {}

    @property
    def facts(self) -> dict[str, Any]:
        """Provenance, with the alignment of every protein seen so far."""
        import vcbench
        from vcbench.encoders.provenance import library_versions

        return {
            "library": f"variantcellbench {vcbench.__version__} MsaTransformer",
            "attn_impl": "rows: tied, batched matmul; columns: torch SDPA",
            "layer": len(self.model.layers),
            "after_final_norm": True,
            "prefix": "<cls>",
            "residue_replacements": "none",
            "token_layout": tokens.LAYOUT_TEXT,
            "msa": {sha256_text(protein): self._facts_of(protein) for protein in sorted(self._found)},
            **library_versions("torch"),
        }

    def window(self, sequence: str, protein: str, start: int) -> Window:
        """Return the window; raises :class:`InputError` when the protein has no alignment."""
        window = Window(sequence, protein, start)
        self._tile(window)
        return window

    def tokens(self, window: Window) -> int:
        """Return rows x columns of a pass."""
        return len(self._tile(window).samples[0]) * (len(window.sequence) + tokens.LAYOUT.special)

    def passes(self, window: Window) -> int:
        """Return the number of samples of the alignment, each of which goes through the network."""
        return len(self._tile(window).samples)

    def token_index(self, position: int) -> int:
        """Return the 0-based token of a 1-based residue position in the protein's row."""
        return tokens.LAYOUT.token_index(position)

    def check(self) -> None:
        """Raise :class:`ModelError` unless ids obey the layout and every token has its hidden row."""
        tokens.LAYOUT.check()
        ids = np.repeat(tokens.LAYOUT.batch([tokens.LETTERS[:-1]])[:, None], 2, axis=1)
        shape, expected = tuple(self._first_row(ids).shape), (1, ids.shape[2], self.width)
        if shape != expected:
            raise ModelError(f"hidden states of ESM-MSA have shape {shape}, expected {expected}")

    def hidden(self, windows: Sequence[Window]) -> torch.Tensor:
        """Return the last states of the protein's row, (windows, tokens, D), the mean over samples in float64.

        Only alignments of equal shape go through the network together, so nothing is ever padded.
        """
        import torch

        tiles = [self._tile(window) for window in windows]
        groups: dict[tuple[int, int, int], list[int]] = {}
        for number, tile in enumerate(tiles):
            groups.setdefault((len(tile.samples), len(tile.samples[0]), tile.ids.shape[1]), []).append(number)
        parts: list[torch.Tensor] = [torch.empty(0)] * len(windows)
        for (samples, _, _), numbers in groups.items():
            total: Any = 0
            for sample in range(samples):
                batch = np.stack([self._ids(windows[number], tiles[number], sample) for number in numbers])
                states = self._first_row(batch)
                total = total + (states if self.settings["n_subsamples"] == 1 else states.double())
            for number, states in zip(numbers, total / samples, strict=True):
                parts[number] = states
        return torch.nn.utils.rnn.pad_sequence(parts, batch_first=True)

    def forward(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Return every named output for named inputs (the hook of vcb_check_weights.py).

        Input ``tokens`` (alignments, rows, columns) of integers, ``<cls>`` (0) in column 0. Outputs, float32:
        ``hidden_states_0`` (embedding) ... ``hidden_states_N`` of all rows, the last one after the final norm, and
        ``first_row``, the (alignments, columns, D) states that become vectors.
        """
        import torch

        ids = inputs.get("tokens")
        if ids is None or len(inputs) > 1:
            raise InputError(
                "wrong input arrays", where="--inputs", found=", ".join(inputs) or "none", expected="tokens"
            )
        if ids.ndim != 3 or ids.dtype.kind not in "iu" or ids.size == 0 or max(ids.shape[1:]) > MAX_COLUMNS:
            raise InputError(
                "wrong tokens", where="--inputs", found=f"{ids.dtype} {ids.shape}",
                expected=f"integers (alignments, rows, columns), at most {MAX_ROWS} rows and {MAX_COLUMNS} columns",
            )  # fmt: skip
        if ids.min() < 0 or ids.max() >= len(tokens.VOCABULARY) or (ids == tokens.PAD).any():
            raise InputError(
                "token id out of range", where="--inputs, tokens", found=f"{ids.min()} to {ids.max()}",
                expected="0 to 32 and no padding (1)",
            )  # fmt: skip
        with torch.inference_mode():
            states = [state.float().cpu().numpy() for state in self.model.states(self._on_device(ids))]
        return {
            "first_row": self._first_row(ids).float().cpu().numpy(),
            **{f"hidden_states_{layer}": state for layer, state in enumerate(states)},
        }

    def _first_row(self, ids: np.ndarray) -> torch.Tensor:
        """Return (B, C, D) from ids (B, R, C)."""
        import torch

        with torch.inference_mode():
            return self.model.first_row(self._on_device(ids))

    def _on_device(self, ids: np.ndarray) -> torch.Tensor:
        import torch

        return torch.as_tensor(ids.astype(np.int64), device=self.model.embed_tokens.weight.device)

    def _ids(self, window: Window, tile: Tile, sample: int) -> np.ndarray:
        """Return (rows, 1 + residues) ids of a pass: `<cls>`, the window's residues in row 0, homologs below."""
        homologs = tile.ids[tile.samples[sample]]
        ids = np.full((homologs.shape[0], homologs.shape[1] + 1), tokens.CLS, dtype=np.int64)
        ids[:, 1:] = homologs
        ids[0] = tokens.LAYOUT.encode(window.sequence)
        return ids

    def _tile(self, window: Window) -> Tile:
        """Return the homologs of a window; read and selected once per protein and tile."""
        key = (window.protein, window.start, len(window.sequence))
        if key not in self._tiles:
            ids = self._homologs(window.protein)[:, window.start : window.start + len(window.sequence)]
            chosen = self.settings
            samples = select(
                ids, chosen["msa_depth"], chosen["msa_select"], chosen["msa_seed"], chosen["n_subsamples"],
                sha256_text(window.protein), window.start,
            )  # fmt: skip
            self._tiles[key] = Tile(ids, samples)
        return self._tiles[key]

    def _homologs(self, protein: str) -> np.ndarray:
        """Return (rows, residues) ids of a protein's alignment, or of the protein alone where that is allowed."""
        if protein not in self._found:
            found = self.alignments.find(protein) if self.alignments else None
            if found is None:
                error = self.alignments.missing(protein) if self.alignments else _no_folder()
                if not self.settings["allow_no_msa"]:
                    raise error
                log.warning("without an alignment, ESM-MSA is a weak model of single sequences: %s", error)
            self._found[protein] = found
        found = self._found[protein]
        return found.ids if found else np.array([tokens.LAYOUT.encode(protein)[1:]], dtype=np.uint8)

    def _facts_of(self, protein: str) -> dict[str, Any]:
        """Return the provenance of one protein's alignment; `tiles` lists start, columns and rows of each tile used."""
        found, chosen = self._found[protein], self.settings
        tiles = {key[1:]: tile for key, tile in sorted(self._tiles.items()) if key[0] == protein}
        depths = [len(tile.samples[0]) for tile in tiles.values()]
        return {
            "sha256": found.sha256 if found else None,
            "file": found.path.name if found else None,
            "rows": len(found.ids) if found else 1,
            "columns": len(protein),
            "depth_used": max(depths),
            "selection": chosen["msa_select"] if found else "no alignment",
            "seed": chosen["msa_seed"] if chosen["msa_select"] == RANDOM else None,
            "n_subsamples": max(len(tile.samples) for tile in tiles.values()),
            "tiles": [[*key, depth] for key, depth in zip(tiles, depths, strict=True)],
        }


def describe(folder: Path, entry: Mapping[str, Any]) -> Official:
    """Open the official ``.pt``; its companion for contacts is not needed.

    Raises :class:`InputError` for anything that is not exactly an ESM-MSA-1b checkpoint, with the place to get it.
    """
    hint = files.where_to_get(entry, folder)
    checkpoint = files.read_folder(folder, hint, [entry["weights"]["files"][0]])
    config = read_config(checkpoint, entry, hint)
    tokens.LAYOUT.check()

    stored_as: dict[str, str] = {}
    for stored in checkpoint.shapes:
        name = our_name(stored)
        if name in stored_as:
            raise InputError(
                "two tensors of one name", where=str(checkpoint.path), found=f"{stored_as[name]}, {stored}", hint=hint
            )
        stored_as[name] = stored
    row_positions = checkpoint.shapes.get(stored_as.get("msa_position_embedding", ""))
    if row_positions is not None and row_positions[-1] == 1 != config["embed_dim"]:
        raise InputError(
            "this is esm_msa1, the first release, whose positions of rows are broken (1 number wide)",
            where=str(checkpoint.path), found=row_positions, expected="esm_msa1b", hint=hint,
        )  # fmt: skip
    if not any(stored.startswith(PREFIX) for stored in checkpoint.shapes):
        log.warning("%s: names lack '%s'; rows and columns are taken as in the official file", checkpoint.path, PREFIX)
    expected = {name: tuple(value.shape) for name, value in make(config).state_dict().items()}
    mapping = {name: stored_as.get(name, PREFIX + _swap(name)) for name in expected}
    unused = {stored_as[name]: reason for name, reason in UNUSED.items() if name in stored_as}
    files.check_tensors(checkpoint, {mapping[name]: shape for name, shape in expected.items()}, list(unused), hint)
    official = all(config[key] == value for key, value in entry["architecture"].items())
    return Official(checkpoint, config, mapping, dict(unused), official)


def build(weights: Weights, settings: Mapping[str, Any], device: str, inputs: Path | None = None) -> EsmMsaNetwork:
    """Return the network; ``inputs`` is the folder of alignments.

    Raises :class:`InputError` for settings that the network cannot take and for a folder that is not in order; a
    protein without alignment is an error once its first window is asked for.
    """
    limits = {"max_residues": MAX_COLUMNS - tokens.LAYOUT.special, "msa_depth": MAX_ROWS}
    for name, most in limits.items():
        if settings[name] > most:
            raise InputError(
                f"ESM-MSA has {most} learned positions for it", where=f"setting {name}", found=settings[name],
                expected=f"at most {most}",
            )  # fmt: skip
    if settings["n_subsamples"] > 1 and settings["msa_select"] != RANDOM:
        raise InputError(
            "several subsamples would all be the same", where="setting n_subsamples", found=settings["n_subsamples"],
            expected=f"1, or msa_select {RANDOM}",
        )  # fmt: skip
    alignments = Alignments(Path(inputs)) if inputs is not None else None
    model = make(weights.config)
    weights.load_into(model, device)
    return EsmMsaNetwork(model, settings, alignments)


def full_size(entry: Mapping[str, Any]) -> torch.nn.Module:
    """Return the network at its published sizes on the meta device."""
    return make(entry["architecture"])


def make(config: Mapping[str, Any]) -> torch.nn.Module:
    """Return the network on the meta device: shapes only, no memory."""

    from vcbench.encoders.esm_msa.model import MsaTransformer

    with shapes_only():
        return MsaTransformer(
            **{key: config[key] for key in SIZES},
            max_positions=MAX_COLUMNS,
            max_rows=MAX_ROWS,
            vocabulary=len(tokens.VOCABULARY),
        )


def read_config(checkpoint: files.Checkpoint, entry: Mapping[str, Any], hint: str) -> dict[str, Any]:
    """Return the sizes in the file's training arguments; raises :class:`InputError` for another architecture."""
    where = str(checkpoint.path)
    arguments = checkpoint.extra.get("args")
    if arguments is None or not hasattr(arguments, "__dict__"):
        raise InputError("no training arguments ('args') in the file", where=where, hint=hint)
    found = {name.removeprefix("encoder_"): value for name, value in vars(arguments).items()}
    required = {"arch": ARCHITECTURE, "embed_positions_msa": True, "max_positions": MAX_COLUMNS}
    for key, value in required.items():
        if found.get(key) != value:
            raise InputError(f"not ESM-MSA-1b: {key}", where=where, found=found.get(key), expected=value, hint=hint)
    for key in SIZES:
        if not isinstance(found.get(key), int) or found[key] < 1:
            raise InputError(f"{key} is no positive integer", where=where, found=found.get(key), hint=hint)
    if found["embed_dim"] % found["attention_heads"]:
        raise InputError("attention_heads do not divide embed_dim", where=where, found=found["embed_dim"], hint=hint)
    if found["embed_dim"] == entry["architecture"]["embed_dim"]:  # tensors cannot reveal a wrong number of heads
        for key, value in entry["architecture"].items():
            if found[key] != value:
                raise InputError(
                    f"{key} is not that of {entry['title']}", where=where, found=found[key], expected=value, hint=hint
                )
    return {key: found[key] for key in SIZES}


def our_name(stored: str) -> str:
    """Return our name of a stored tensor: without the training code's prefixes, rows and columns exchanged.

    The published file calls the attention along the sequence `column`, the code that it belongs to calls it `row`.
    """
    return _swap(stored.rpartition("sentence_encoder.")[2].rpartition("encoder.")[2])


def _swap(name: str) -> str:
    return name.replace("row", "column") if "row" in name else name.replace("column", "row")


def _no_folder() -> InputError:
    return InputError("ESM-MSA needs an alignment of every protein", where="--msas", found="nothing", hint=HOW_TO)

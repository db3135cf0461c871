"""A network that sees one sequence of residue tokens per pass: all of the protocol but the forward pass itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from vcbench.core.errors import InputError, ModelError
from vcbench.encoders.plm.network import Window
from vcbench.encoders.plm.tokens import Layout

if TYPE_CHECKING:
    import torch


class ResidueNetwork:
    """Base of networks whose pass is `layout.encode(sequence)`; a subclass gives :meth:`states`.

    Parameters
    ----------
    model
        The loaded module; its parameters say on which device ids have to be.
    layout
        Token ids of a sequence.
    width
        Length D of a residue's vector.
    vocabulary
        Number of rows of the embedding; ids must be below.
    facts
        Provenance this network knows.
    """

    def __init__(
        self, model: torch.nn.Module, layout: Layout, width: int, vocabulary: int, facts: Mapping[str, Any]
    ) -> None:
        self.model, self.layout, self.width, self.vocabulary, self.facts = model, layout, width, vocabulary, facts

    def states(self, ids: torch.Tensor, mask: torch.Tensor, all_layers: bool) -> Sequence[torch.Tensor]:
        """Return the hidden states of ids (batch, tokens), of which `mask` (bool, same shape) is no padding.

        Each is (batch, tokens, D), the last one is the last layer's after the final norm. With ``all_layers`` the
        embedding output and every layer come before it. Called in inference mode.
        """
        raise NotImplementedError

    def window(self, sequence: str, protein: str, start: int) -> Window:
        """Return the window; nothing but its residues matters."""
        return Window(sequence)

    def tokens(self, window: Window) -> int:
        """Return the number of tokens of a pass."""
        return len(window.sequence) + self.layout.special

    def passes(self, window: Window) -> int:
        """Return 1: a window goes through the network once."""
        return 1

    def token_index(self, position: int) -> int:
        """Return the 0-based token of a 1-based residue position."""
        return self.layout.token_index(position)

    def check(self) -> None:
        """Raise :class:`ModelError` unless ids obey the layout and every token has its hidden row."""
        probe = "".join(self.layout.ids)
        self.layout.check(probe=probe)
        ids = self.layout.batch([probe])
        shape = tuple(self.run(ids)[-1].shape)
        if shape != (*ids.shape, self.width):
            raise ModelError(f"hidden states have shape {shape}, expected {(*ids.shape, self.width)}")

    def hidden(self, windows: Sequence[Window]) -> torch.Tensor:
        """Return the last layer's states after the final norm, (windows, tokens, D)."""
        return self.run(self.layout.batch([window.sequence for window in windows]))[-1]

    def forward(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Return every named output for named inputs (the hook of vcb_check_weights.py).

        Input ``input_ids`` (batch, tokens) of integers and, optionally, ``attention_mask`` of the same shape (default:
        all but the padding). Output ``last_hidden_state`` and ``hidden_states_0`` ... ``hidden_states_N``, float32.
        Raises :class:`InputError` for other names, shapes or ids.
        """
        ids, mask = self._arrays(inputs)
        states = [state.float().cpu().numpy() for state in self.run(ids, mask, all_layers=True)]
        layers = {f"hidden_states_{layer}": state for layer, state in enumerate(states)}
        return {"last_hidden_state": states[-1], **layers}

    def run(self, ids: np.ndarray, mask: np.ndarray | None = None, all_layers: bool = False) -> Sequence[torch.Tensor]:
        """Return the hidden states of ids (batch, tokens), see :meth:`states`; default mask: all but the padding."""
        import torch

        device = next(self.model.parameters()).device
        mask = ids != self.layout.pad if mask is None else mask
        with torch.inference_mode():
            return self.states(
                torch.as_tensor(ids, dtype=torch.long, device=device),
                torch.as_tensor(mask, dtype=torch.bool, device=device),
                all_layers,
            )

    def _arrays(self, inputs: Mapping[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray | None]:
        where = "--inputs"
        if "input_ids" not in inputs or set(inputs) - {"input_ids", "attention_mask"}:
            raise InputError(
                "wrong input arrays", where=where, found=", ".join(inputs) or "none",
                expected="input_ids and optionally attention_mask",
            )  # fmt: skip
        ids, mask = inputs["input_ids"], inputs.get("attention_mask")
        if ids.ndim != 2 or ids.dtype.kind not in "iu" or ids.size == 0:
            raise InputError(
                "wrong input_ids", where=where, found=f"{ids.dtype} {ids.shape}", expected="integers (batch, tokens)"
            )
        if ids.min() < 0 or ids.max() >= self.vocabulary:
            raise InputError(
                "token id out of range", where=f"{where}, input_ids", found=f"{ids.min()} to {ids.max()}",
                expected=f"0 to {self.vocabulary - 1}",
            )  # fmt: skip
        if mask is not None and mask.shape != ids.shape:
            raise InputError("wrong shape of attention_mask", where=where, found=mask.shape, expected=ids.shape)
        return ids, mask

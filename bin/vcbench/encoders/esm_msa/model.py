"""The MSA Transformer (Rao et al., ICML 2021): attention over rows with tied weights, then over columns, then an FFN.

Written for one question: the states of the first row. Names of parameters are those of fair-esm's `MSATransformer`,
whose output the tests compare. Weights of attention are never kept, and those over columns are never held at all;
a layer works through the alignment in pieces, so that memory beside the states does not grow with its depth.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from vcbench.encoders.esm_msa.tokens import PAD

#: Tokens that a layer works on at a time (times the batch): bounds the memory beside the states themselves.
CHUNK = 2**14


class _Attention(nn.Module):
    """Projections of one attention; heads split the last axis."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q_proj, self.k_proj = nn.Linear(width, width), nn.Linear(width, width)
        self.v_proj, self.out_proj = nn.Linear(width, width), nn.Linear(width, width)

    def split(self, states: torch.Tensor) -> torch.Tensor:
        """(B, R, C, D) -> (B, R, C, heads, D / heads)."""
        return states.unflatten(-1, (self.heads, -1))


class RowAttention(_Attention):
    """Attention along the sequence, with one (C, C) map for all rows: logits are summed over them."""

    def logits(self, x: torch.Tensor, rows: int) -> torch.Tensor:
        """(B, some rows, C, D) -> (B, heads, C, C): what these rows add to sum_r q_ri k_rj / sqrt(R d)."""
        scale = (x.shape[-1] // self.heads * rows) ** -0.5
        query = self._all_rows(self.q_proj(x) * scale)
        return query @ self._all_rows(self.k_proj(x)).transpose(-1, -2)

    def forward(self, x: torch.Tensor, attention: torch.Tensor) -> torch.Tensor:
        """(B, some rows, C, D), (B, heads, C, C) -> (B, some rows, C, D): sum_j attention_ij v_rj."""
        context = attention @ self._all_rows(self.v_proj(x))
        context = context.unflatten(-1, (x.shape[1], -1)).permute(0, 3, 2, 1, 4).flatten(-2)
        return self.out_proj(context)

    def _all_rows(self, states: torch.Tensor) -> torch.Tensor:
        """(B, R, C, D) -> (B, heads, C, R * d): the features of a column over all rows."""
        return self.split(states).permute(0, 3, 2, 1, 4).flatten(-2)


class ColumnAttention(_Attention):
    """Attention along the alignment, within each column."""

    def forward(self, x: torch.Tensor, rows: int) -> torch.Tensor:
        """(B, R, C, D) -> (B, rows, C, D): the first ``rows`` rows ask, all answer."""
        query, key, value = (
            self.split(states).permute(0, 2, 3, 1, 4)  # (B, C, heads, R, d)
            for states in (self.q_proj(x[:, :rows]), self.k_proj(x), self.v_proj(x))
        )
        context = F.scaled_dot_product_attention(query, key, value)
        return self.out_proj(context.permute(0, 3, 1, 2, 4).flatten(-2))


class FeedForward(nn.Module):
    """Two linear layers with GELU between them."""

    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(width, inner), nn.Linear(inner, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(..., D) -> (..., D)."""
        return self.fc2(F.gelu(self.fc1(x)))


class _Residual(nn.Module):
    """A layer and the norm before it."""

    def __init__(self, layer: nn.Module, width: int) -> None:
        super().__init__()
        self.layer, self.layer_norm = layer, nn.LayerNorm(width)


class Layer(nn.Module):
    """One axial layer: rows, columns, feed-forward, each with a norm before it and a residual around it."""

    def __init__(self, width: int, heads: int, inner: int) -> None:
        super().__init__()
        self.row_self_attention = _Residual(RowAttention(width, heads), width)
        self.column_self_attention = _Residual(ColumnAttention(width, heads), width)
        self.feed_forward_layer = _Residual(FeedForward(width, inner), width)

    def forward(self, x: torch.Tensor, rows: int) -> torch.Tensor:
        """(B, R, C, D) -> (B, rows, C, D); what the later rows would become is not computed. Changes ``x``."""
        row, column, feed = self.row_self_attention, self.column_self_attention, self.feed_forward_layer
        depth, columns = x.shape[1:3]
        some_rows, some_columns = max(1, CHUNK // columns), max(1, CHUNK // depth)
        logits: Any = 0
        for block in x.split(some_rows, dim=1):
            logits = logits + row.layer.logits(row.layer_norm(block), depth)
        attention = logits.softmax(-1)
        for block in x.split(some_rows, dim=1):
            block += row.layer(row.layer_norm(block), attention)
        for block in x.split(some_columns, dim=2):
            block[:, :rows] += column.layer(column.layer_norm(block), rows)
        out = x[:, :rows]
        for block in out.split(some_rows, dim=1):
            block += feed.layer(feed.layer_norm(block))
        return out


class MsaTransformer(nn.Module):
    """The encoder without its heads for masked letters and contacts."""

    def __init__(self, layers: int, embed_dim: int, attention_heads: int, ffn_embed_dim: int, max_positions: int,
                 max_rows: int, vocabulary: int) -> None:  # fmt: skip
        super().__init__()
        self.width = embed_dim
        self.embed_tokens = nn.Embedding(vocabulary, embed_dim)
        self.embed_positions = nn.Embedding(max_positions + PAD + 1, embed_dim)
        self.msa_position_embedding = nn.Parameter(torch.empty(1, max_rows, 1, embed_dim))
        self.emb_layer_norm_before = nn.LayerNorm(embed_dim)
        self.layers = nn.ModuleList(Layer(embed_dim, attention_heads, ffn_embed_dim) for _ in range(layers))
        self.emb_layer_norm_after = nn.LayerNorm(embed_dim)

    def embed(self, tokens: torch.Tensor) -> torch.Tensor:
        """Return (B, R, C, D) from ids (B, R, C): letter, column and row added up, then a norm.

        Columns are counted from PAD + 1, as in training.
        """
        rows, columns = tokens.shape[1:]
        x = self.embed_tokens(tokens)
        x += self.embed_positions.weight[PAD + 1 : PAD + 1 + columns]
        x += self.msa_position_embedding[:, :rows]
        return self.emb_layer_norm_before(x)

    def first_row(self, tokens: torch.Tensor) -> torch.Tensor:
        """Return the last states of the first row after the final norm, (B, C, D), from ids (B, R, C).

        Exact: in the last layer only the first row asks its columns and goes through the feed-forward layer.
        """
        x = self.embed(tokens)
        for number, layer in enumerate(self.layers, start=1):
            x = layer(x, 1 if number == len(self.layers) else x.shape[1])
        return self.emb_layer_norm_after(x[:, 0])

    def states(self, tokens: torch.Tensor) -> Iterator[torch.Tensor]:
        """Yield (B, R, C, D) after the embedding and after every layer; the last one is after the final norm."""
        x = self.embed(tokens)
        for layer in self.layers:
            yield x.clone()
            x = layer(x, x.shape[1])
        yield self.emb_layer_norm_after(x)

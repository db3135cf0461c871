"""The xTrimoPGLM encoder in plain PyTorch, a clean-room network (specs: plm_encoders.md 2.4).

Embedding, blocks, final layer norm. With ``alpha = sqrt(2 * number of blocks)`` a block is::

    a = LayerNorm1(h);  h' = alpha * a + Attention(a)      # DeepNorm: the residual is taken after the norm
    b = LayerNorm2(h'); h'' = alpha * b + MLP(b)

Attention sees all tokens but padding; queries and keys are rotated (1-D, over the whole head, half-split). The MLP is
GEGLU. Every linear layer has a bias. Names of modules are those of the official file, less its `transformer.`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional


@dataclass(frozen=True)
class Sizes:
    """What config.json says about the sizes; the names are its own."""

    hidden_size: int
    num_layers: int
    num_attention_heads: int
    kv_channels: int
    ffn_hidden_size: int
    padded_vocab_size: int
    layernorm_epsilon: float


def rotate(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Rotate each pair of channels (i, i + d/2) of (..., tokens, d) by its angle, in float32 whatever the input.

    `cos` and `sin` are (tokens, d/2) float32: bfloat16 cannot hold positions beyond 256.
    """
    first, second = x.float().chunk(2, dim=-1)
    return torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1).to(x.dtype)


class Attention(nn.Module):
    """Bidirectional self-attention with one projection whose output is, per head, query, key and value."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.heads, self.channels = sizes.num_attention_heads, sizes.kv_channels
        inner = self.heads * self.channels
        self.query_key_value = nn.Linear(sizes.hidden_size, 3 * inner)
        self.dense = nn.Linear(inner, sizes.hidden_size)

    def forward(self, x: torch.Tensor, mask: torch.Tensor | None, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
        """Return (batch, tokens, hidden); `mask` is (batch, 1, 1, tokens), True where a key counts."""
        fused = self.query_key_value(x).unflatten(-1, (self.heads, 3 * self.channels)).transpose(1, 2)
        query, key, value = fused.chunk(3, dim=-1)  # each (batch, heads, tokens, channels)
        query, key = rotate(query, cos, sin), rotate(key, cos, sin)
        mixed = functional.scaled_dot_product_attention(query, key, value, attn_mask=mask)  # scale 1 / sqrt(channels)
        return self.dense(mixed.transpose(1, 2).flatten(2))


class FeedForward(nn.Module):
    """GEGLU: of the doubled projection the first half times GELU of the second half."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.dense_h_to_4h = nn.Linear(sizes.hidden_size, 2 * sizes.ffn_hidden_size)
        self.dense_4h_to_h = nn.Linear(sizes.ffn_hidden_size, sizes.hidden_size)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return (batch, tokens, hidden)."""
        linear, gate = self.dense_h_to_4h(x).chunk(2, dim=-1)
        return self.dense_4h_to_h(linear * functional.gelu(gate))


class Block(nn.Module):
    """One layer: attention and feed-forward, each with its norm before and the scaled residual after that norm."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.alpha = math.sqrt(2 * sizes.num_layers)
        self.input_layernorm = nn.LayerNorm(sizes.hidden_size, eps=sizes.layernorm_epsilon)
        self.self_attention = Attention(sizes)
        self.post_attention_layernorm = nn.LayerNorm(sizes.hidden_size, eps=sizes.layernorm_epsilon)
        self.mlp = FeedForward(sizes)

    def forward(self, h: torch.Tensor, mask: torch.Tensor | None, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
        """Return the next hidden states, (batch, tokens, hidden)."""
        a = self.input_layernorm(h)
        h = self.alpha * a + self.self_attention(a, mask, cos, sin)
        b = self.post_attention_layernorm(h)
        return self.alpha * b + self.mlp(b)


class Encoder(nn.Module):
    """The whole network, without the language-model head.

    Parameters
    ----------
    inv_freq
        Rotary frequencies, (kv_channels / 2,) float32.
    stored
        Whether the frequencies are one of the weights (they are in some checkpoints) or computed.
    """

    def __init__(self, sizes: Sizes, inv_freq: torch.Tensor, stored: bool) -> None:
        super().__init__()
        self.embedding = nn.ModuleDict({"word_embeddings": nn.Embedding(sizes.padded_vocab_size, sizes.hidden_size)})
        self.encoder = nn.ModuleDict(
            {
                "layers": nn.ModuleList(Block(sizes) for _ in range(sizes.num_layers)),
                "final_layernorm": nn.LayerNorm(sizes.hidden_size, eps=sizes.layernorm_epsilon),
            }
        )
        self.register_buffer("inv_freq", inv_freq, persistent=stored)

    def forward(self, ids: torch.Tensor, mask: torch.Tensor, all_layers: bool = False) -> list[torch.Tensor]:
        """Return the last hidden states after the final norm, preceded by all others with ``all_layers``.

        `ids` and `mask` are (batch, tokens), `mask` is False at padding; each result is (batch, tokens, hidden). The
        others are the embedding and the output of every layer but the last, as transformers gives them.
        """
        positions = torch.arange(ids.shape[1], dtype=torch.float32, device=ids.device)
        angles = positions[:, None] * self.inv_freq.float()
        cos, sin = angles.cos(), angles.sin()
        keys = None if bool(mask.all()) else mask[:, None, None, :]
        h = self.embedding["word_embeddings"](ids)
        states = []
        for layer in self.encoder["layers"]:
            if all_layers:
                states.append(h)
            h = layer(h, keys, cos, sin)
        return [*states, self.encoder["final_layernorm"](h)]

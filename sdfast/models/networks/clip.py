"""CLIP's text encoder: what do these words mean, each in its place?"""

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sdfast.models.networks.config import Config
from sdfast.models.networks.layers import Linear, blank, by_head
from sdfast.models.networks.norms import LayerNorm

_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "quick_gelu": lambda x: x * torch.sigmoid(1.702 * x),
    "gelu": F.gelu,
}


class Meaning(NamedTuple):
    """Hidden states [n, tokens, width] of one layer, and, where it is projected, the whole text."""

    normed: Tensor
    """By the final norm: what Stable Diffusion 1.x and 2.x read, of the last layer."""
    hidden: Tensor
    """As they are: what XL reads, of the last but one."""
    pooled: Tensor | None
    """What the text means as one, [n, width], always of the last layer."""


class _Embedding(nn.Module):
    def __init__(self, known: int, width: int) -> None:
        super().__init__()
        self.weight = blank(known, width)
        self.learned: nn.Parameter | None = None

    def forward(self, ids: Tensor) -> Tensor:
        if self.learned is None:
            return F.embedding(ids, self.weight)
        known = len(self.weight)
        own = F.embedding(ids.clamp(max=known - 1), self.weight)
        learned = F.embedding((ids - known).clamp(min=0), self.learned)
        return torch.where((ids < known)[..., None], own, learned)


class _Embeddings(nn.Module):
    def __init__(self, known: int, places: int, width: int) -> None:
        super().__init__()
        self.token_embedding = _Embedding(known, width)
        self.position_embedding = _Embedding(places, width)

    def forward(self, ids: Tensor) -> Tensor:
        where = self.position_embedding.weight[: ids.shape[1]]
        return self.token_embedding(ids) + where


class _Attention(nn.Module):
    """Every word asks those before it."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.qkv_proj = Linear(width, 3 * width)
        self.out_proj = Linear(width, width)
        self._heads = heads

    def forward(self, x: Tensor, plus: Tensor) -> Tensor:
        q, k, v = (by_head(part, self._heads) for part in self.qkv_proj(x).chunk(3, -1))
        found = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.out_proj(found.transpose(1, 2).flatten(2), "add", plus)


class _FeedForward(nn.Module):
    def __init__(self, width: int, inner: int, activation: str) -> None:
        super().__init__()
        self.fc1 = Linear(width, inner)
        self.fc2 = Linear(inner, width)
        self._activation = activation

    def forward(self, x: Tensor, plus: Tensor) -> Tensor:
        return self.fc2(_ACTIVATIONS[self._activation](self.fc1(x)), "add", plus)


class _Layer(nn.Module):
    def __init__(self, width: int, heads: int, inner: int, activation: str, eps: float) -> None:
        super().__init__()
        self.layer_norm1 = LayerNorm(width, eps)
        self.self_attn = _Attention(width, heads)
        self.layer_norm2 = LayerNorm(width, eps)
        self.mlp = _FeedForward(width, inner, activation)

    def forward(self, x: Tensor) -> Tensor:
        x = self.self_attn(self.layer_norm1(x), x)
        return self.mlp(self.layer_norm2(x), x)


class _Encoder(nn.Module):
    def __init__(self, layers: list[_Layer]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)


class TextEncoder(nn.Module):
    """transformers' CLIPTextModel, and CLIPTextModelWithProjection if it `projects`."""

    def __init__(self, config: Config, *, projects: bool = False) -> None:
        super().__init__()
        self.known = config.count("vocab_size", 49408)
        self.places = config.count("max_position_embeddings", 77)
        self.width = config.count("hidden_size", 512)
        inner = config.count("intermediate_size", 2048)
        self.depth = layers = config.count("num_hidden_layers", 12, most=256)
        heads = config.count("num_attention_heads", 8)
        config.divides("num_attention_heads", heads, self.width)
        activation = config.one_of("hidden_act", _ACTIVATIONS, "quick_gelu")
        eps = config.number("layer_norm_eps", 1e-5)
        self._end = config.count("eos_token_id", 49407)
        self.embeddings = _Embeddings(self.known, self.places, self.width)
        self.encoder = _Encoder(
            [_Layer(self.width, heads, inner, activation, eps) for _ in range(layers)]
        )
        self.final_layer_norm = LayerNorm(self.width, eps)
        if projects:
            self.text_projection = Linear(
                self.width, config.count("projection_dim", 512), bias=False
            )

    def learn(self, rows: Tensor) -> None:
        """Mean rows [more, width] by the tokens from `known` on, once the weights are there."""
        words = self.embeddings.token_embedding
        words.learned = nn.Parameter(rows.to(words.weight), requires_grad=False)

    def forward(self, ids: Tensor, back: int = 1) -> Meaning:
        """What tokens [n, tokens] mean in a layer, counted from the last, which is 1."""
        states = [self.embeddings(ids)]
        for layer in self.encoder.layers:
            states.append(layer(states[-1]))
        hidden = states[-back]
        normed = self.final_layer_norm(hidden)
        if not hasattr(self, "text_projection"):
            return Meaning(normed, hidden, None)
        last = self.final_layer_norm(states[-1])
        # configs from before transformers 4.31 say 2 and mean the highest token there is
        end = ids.where(ids < self.known, 0) if self._end == 2 else (ids == self._end).int()
        rows = torch.arange(len(ids), device=ids.device)
        return Meaning(normed, hidden, self.text_projection(last[rows, end.argmax(-1)]))

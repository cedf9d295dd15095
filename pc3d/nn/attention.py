"""Cross-attention with contextual relative positions, on scans packed into one set of rows.

Per head h, for query i and key j of one scan (MAFT, Lai et al. 2023; split content and position as in conditional DETR):

    (1)  logit_ij = [qc_i, qs_i] . [kc_j, kp_j] / sqrt(2 e)  +  sum_a (qc_i . Tq[a, n_a] / sqrt(2 e)  +  kc_j . Tk[a, n_a])
    (2)  n_a = clamp(floor((x_i - x_j)_a / grid), -G, G - 1) + G                              for the axes a = x, y, z
    (3)  o_i = sum_j softmax_j(logit)_ij (v_j + sum_a Tv[a, n_a])

with e channels per head, qc, kc, v from the content, qs, kp from the position, and learned tables Tq, Tk, Tv. The key term
is not scaled: released weights were trained so.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pc3d.ops import relative_add, relative_read


@dataclass(frozen=True)
class Tokens:
    """Rows of one side of an attention: the tokens of scan 0, then those of scan 1, and so on."""

    content: Tensor    # (R, d)
    position: Tensor   # (R, d) code of where the token is
    xyz: Tensor        # (R, 3) metres
    sizes: list[int]   # tokens per scan


class ContextualCrossAttention(nn.Module):
    """Equations (1) to (3) with H heads of d/H content and d/H position channels."""

    def __init__(self, d_model: int, num_heads: int, grid_length: int, grid_size: float) -> None:
        super().__init__()
        self.num_heads, self.grid_length, self.grid_size = num_heads, grid_length, grid_size
        self.query_content, self.query_position = nn.Linear(d_model, d_model), nn.Linear(d_model, d_model)
        self.key_content, self.key_position = nn.Linear(d_model, d_model), nn.Linear(d_model, d_model)
        self.value = nn.Linear(d_model, d_model)
        self.out = nn.Linear(d_model, d_model)
        table = (num_heads, d_model // num_heads, 3 * 2 * grid_length)
        self.query_table = nn.Parameter(torch.empty(table))
        self.key_table = nn.Parameter(torch.empty(table))
        self.value_table = nn.Parameter(torch.empty(table))

    def forward(self, queries: Tokens, keys: Tokens, blocked: Sequence[Tensor] | None = None,
                point_code: Tensor | None = None) -> Tensor:
        """Return what each query (R_q, d) reads from the keys of its own scan.

        ``blocked`` holds per scan a mask (R_q, R_k), true where a query may not look. With ``point_code`` (R_q, d), the
        first layer's extra, positions also enter the content of queries and keys.
        """
        query_content, key_content = self.query_content(queries.content), self.key_content(keys.content)
        query_position, key_position = self.query_position(queries.position), self.key_position(keys.position)
        if point_code is not None:
            query_content, key_content = query_content + point_code, key_content + key_position
        value = self.value(keys.content)
        asking = zip(*(self._heads(x).split(queries.sizes) for x in (query_content, query_position)))
        answering = zip(*(self._heads(x).split(keys.sizes) for x in (key_content, key_position, value)))
        places = zip(queries.xyz.split(queries.sizes), keys.xyz.split(keys.sizes))
        bins = (relative_bins(*xyz, self.grid_length, self.grid_size) for xyz in places)                  # (2)
        read = [self._scan(query, key, pairs, None if blocked is None else blocked[b])
                for b, (query, key, pairs) in enumerate(zip(asking, answering, bins))]
        result: Tensor = self.out(torch.cat(read))
        return result

    def _heads(self, x: Tensor) -> Tensor:
        return x.unflatten(1, (self.num_heads, -1))

    def _scan(self, query: tuple[Tensor, ...], key: tuple[Tensor, ...], bins: Tensor, blocked: Tensor | None) -> Tensor:
        """One scan: K queries (content, position) and M keys (content, position, value), (., H, e) each, to (K, d)."""
        (qc, qs), (kc, kp, v) = query, key
        scale = 1 / math.sqrt(2 * qc.shape[2])
        logits = torch.einsum("khe,mhe->hkm", torch.cat([qc, qs], dim=2) * scale, torch.cat([kc, kp], dim=2))
        # In place: (H, K, M) tensors are the largest of the decoder, and a fresh one costs more than its arithmetic.
        logits += relative_read(torch.einsum("khe,het->hkt", qc * scale, self.query_table), bins, by_key=False)
        logits += relative_read(torch.einsum("mhe,het->hmt", kc, self.key_table), bins, by_key=True)      # (1)
        if blocked is not None:
            logits.masked_fill_(blocked, -torch.inf)
        weights = logits.softmax(dim=2)                                                                   # (3)
        weight_of_column = relative_add(weights, bins, 6 * self.grid_length, by_key=False)
        relative = torch.einsum("hkt,het->khe", weight_of_column, self.value_table)
        return (torch.einsum("hkm,mhe->khe", weights, v) + relative).flatten(1)


@torch.no_grad()
def relative_bins(query_xyz: Tensor, key_xyz: Tensor, grid_length: int, grid_size: float) -> Tensor:
    """Table columns n_a + 2 G a of each pair (3, K, M) int16; equation (2)."""
    steps = ((query_xyz.T[:, :, None] - key_xyz.T[:, None, :]) / grid_size).floor_()
    first = torch.arange(3, device=steps.device).mul(2 * grid_length).add(grid_length)[:, None, None]
    return steps.clamp_(-grid_length, grid_length - 1).add_(first).to(torch.int16)

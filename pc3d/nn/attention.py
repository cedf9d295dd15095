"""Cross-attention with contextual relative positions, on scans packed into one set of rows.

Per head h, for query i and key j of one scan (MAFT, Lai et al. 2023; split content and position as in conditional DETR):

    (1)  logit_ij = [qc_i, qs_i] . [kc_j, kp_j] / sqrt(2 e)  +  sum_a (qc_i . Tq[a, n_a] / sqrt(2 e)  +  kc_j . Tk[a, n_a])
    (2)  n_a = clamp(floor((x_i - x_j)_a / grid), -G, G - 1) + G                              for the axes a = x, y, z
    (3)  o_i = sum_j softmax_j(logit)_ij (v_j + sum_a Tv[a, n_a])

with e channels per head, qc, kc, v from the content, qs, kp from the position, and learned tables Tq, Tk, Tv. The key term
is not scaled: released weights were trained so.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pc3d.nn.linear import Linear
from pc3d.ops import AttentionSide, PositionTables, relative_attention


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
        self.grid_size = grid_size
        self.query_content, self.query_position = Linear(d_model, d_model), Linear(d_model, d_model)
        self.key_content, self.key_position = Linear(d_model, d_model), Linear(d_model, d_model)
        self.value = Linear(d_model, d_model)
        self.out = Linear(d_model, d_model)
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
        asking = _sides(query_content, query_position, queries)
        answering = _sides(key_content, key_position, keys)
        values = self.value(keys.content).split(keys.sizes)
        tables = PositionTables(self.query_table, self.key_table, self.value_table)
        read = [relative_attention(query, key, value, tables, self.grid_size, None if blocked is None else blocked[scan])
                for scan, (query, key, value) in enumerate(zip(asking, answering, values))]             # (1) to (3)
        result: Tensor = self.out(read[0] if len(read) == 1 else torch.cat(read))
        return result


def _sides(content: Tensor, position: Tensor, tokens: Tokens) -> list[AttentionSide]:
    """Projected rows, scan by scan."""
    return [AttentionSide(*rows) for rows in zip(*(x.split(tokens.sizes) for x in (content, position, tokens.xyz)))]

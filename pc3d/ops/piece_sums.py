"""Counts by piece, summed over sets of rows, of the few pieces that are asked for."""

from __future__ import annotations

import torch
from torch import Tensor

from pc3d.ops._library import define, on_cpu
from pc3d.ops.mask_testimony import SparseRows


def piece_sums(sets: SparseRows, counts: SparseRows, pairs: SparseRows, first: Tensor, number: Tensor) -> Tensor:
    """Sum the counts of pieces over sets of rows, for pairs of a set and an owner of pieces.

    ``sets`` (G, R), ``counts`` (R, K) and ``pairs`` (G, S) are sparse rows, of sets and pairs the pattern alone. The pieces of
    owner s are ``first[s]`` to ``first[s] + number[s]``, (S,) int64; each piece has one.

    Returns (E,) int64, pair after pair the sum of each piece of its owner. Raises ValueError for rows that do not fit.
    """
    return _op(*sets[:2], *counts, *pairs[:2], first, number)


def _reference(set_starts: Tensor, set_rows: Tensor, starts: Tensor, pieces: Tensor, counts: Tensor, pair_starts: Tensor,
               pair_owners: Tensor, first: Tensor, number: Tensor) -> Tensor:
    total = int(number.sum())
    one_set = torch.repeat_interleave(torch.arange(len(set_starts) - 1), set_starts.diff())
    row = torch.repeat_interleave(torch.arange(len(starts) - 1), starts.diff())
    of_pair = torch.repeat_interleave(torch.arange(len(pair_starts) - 1), pair_starts.diff())
    table = torch.zeros(len(starts) - 1, total, dtype=torch.int64)
    table[row, pieces.long()] = counts.long()
    sums = torch.zeros(len(set_starts) - 1, total, dtype=torch.int64).index_add(0, one_set, table[set_rows.long()])
    asked = [sums[which, int(first[owner]):int(first[owner] + number[owner])]
             for which, owner in zip(of_pair.tolist(), pair_owners.tolist())]
    return torch.cat([sums.new_zeros(0), *asked])


def _fake(set_starts: Tensor, set_rows: Tensor, starts: Tensor, pieces: Tensor, counts: Tensor, pair_starts: Tensor,
          pair_owners: Tensor, first: Tensor, number: Tensor) -> Tensor:
    return first.new_empty(torch.library.get_ctx().new_dynamic_size())


_op = define(
    "piece_sums(Tensor set_starts, Tensor set_rows, Tensor starts, Tensor pieces, Tensor counts, Tensor pair_starts, "
    "Tensor pair_owners, Tensor first, Tensor number) -> Tensor", reference=on_cpu(_reference), fake=_fake)

"""Pieces of superpoints: where masks cut a superpoint, as a picture does the patch of wall that it shares, images say where."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from pc3d.structures.sparse import find, keep, one_per_row, ones_at, rows_of


@dataclass(frozen=True, eq=False)
class Pieces:
    """K pieces of S superpoints, a few neighbouring points each; the pieces of a superpoint lie side by side."""

    superpoint: NDArray[np.int64]       # (K,)
    sizes: NDArray[np.int64]            # (K,) points
    point: NDArray[np.int64]            # (K,) one of them, a row of the file
    point_to_piece: NDArray[np.int64]   # (N,) in the order of the file
    num_superpoints: int                # S

    @cached_property
    def count(self) -> NDArray[np.int64]:
        """Pieces of each superpoint (S,)."""
        return np.bincount(self.superpoint, minlength=self.num_superpoints)

    @cached_property
    def first(self) -> NDArray[np.int64]:
        """The first piece of each superpoint (S,)."""
        starts = np.flatnonzero(np.diff(self.superpoint, prepend=-1))
        first = np.zeros(self.num_superpoints, np.int64)
        first[self.superpoint[starts]] = starts
        return first

    @cached_property
    def share(self) -> NDArray[np.float64]:
        """Of its superpoint's points (K,)."""
        return self.sizes / np.bincount(self.superpoint, self.sizes, self.num_superpoints)[self.superpoint]

    @cached_property
    def to_superpoint(self) -> csr_matrix:
        """(K, S) ones."""
        return one_per_row(self.superpoint, self.num_superpoints)

    def fan_out(self, superpoints: NDArray[Any]) -> NDArray[np.int64]:
        """All pieces of some superpoints (Q,), those of one after those of another."""
        count = self.count[superpoints]
        return np.arange(count.sum()) + np.repeat(self.first[superpoints] - (np.cumsum(count) - count), count)

    def segments(self, masks: csr_matrix) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
        """Masks (I, K), as ones, over as few segments as tell them apart (I, S + X), and the segment of each piece (K,).

        The superpoints come first, less what is cut off them; X segments that were cut off follow. Pieces are told apart by
        sums, modulo 2^64, of random numbers of the masks that hold them.
        """
        number = np.random.default_rng(0).integers(1, 2**63, masks.shape[0])
        held = np.zeros(len(self.superpoint), np.int64)
        np.add.at(held, masks.indices, number[rows_of(masks)])
        off = np.flatnonzero(held != held[self.first[self.superpoint]])
        off = off[np.lexsort([held[off], self.superpoint[off]])]
        first = (np.diff(self.superpoint[off], prepend=-1) != 0) | (np.diff(held[off], prepend=0) != 0)
        segment = self.superpoint.copy()
        segment[off] = self.num_superpoints - 1 + np.cumsum(first)
        on_segments = np.zeros((masks.shape[0], self.num_superpoints + int(first.sum())), bool)
        on_segments[rows_of(masks), segment[masks.indices]] = True
        return on_segments, segment


@dataclass(frozen=True, eq=False)
class Extent:
    """What G sets hold of superpoints: all of some, and some pieces of others."""

    whole: csr_matrix                   # (G, S) ones
    torn: csr_matrix                    # (G, S) ones, none of them in ``whole``
    held: NDArray[np.bool_]             # (E,) of all pieces of the torn ones, one after another

    @classmethod
    def of(cls, whole: csr_matrix) -> Extent:
        """Whole superpoints alone."""
        return cls(whole, csr_matrix(whole.shape, dtype=np.int32), np.zeros(0, bool))

    def touched(self, pieces: Pieces) -> csr_matrix:
        """Superpoints (G, S) of which a set holds something, as ones."""
        count = pieces.count[self.torn.indices]
        some = np.bincount(np.repeat(np.arange(len(count)), count), self.held, len(count)) > 0
        touched = (self.whole + keep(self.torn, some, dtype=np.int32)).tocsr()
        touched.sort_indices()
        return touched

    def on_pieces(self, sets: NDArray[np.int64], parts: csr_matrix, pieces: Pieces) -> csr_matrix:
        """Pieces (P, K), as ones, of parts of the sets: of each its set (P,) and the superpoints (P, S) it has something of."""
        row, superpoint = rows_of(parts), parts.indices
        count, before = pieces.count[superpoint], np.cumsum(pieces.count[self.torn.indices]) - pieces.count[self.torn.indices]
        place = find(self.torn, sets[row], superpoint)
        start = np.where(place >= 0, np.append(before, 0)[place], 0)
        entry, at = np.repeat(place, count), np.arange(count.sum()) + np.repeat(start - (np.cumsum(count) - count), count)
        inside = np.ones(len(entry), bool)
        inside[entry >= 0] = self.held[at[entry >= 0]]
        row, piece = np.repeat(row, count)[inside], pieces.fan_out(superpoint)[inside]
        return ones_at(row, piece, (parts.shape[0], len(pieces.sizes)))

    def without(self, superpoints: NDArray[np.int64], pieces: Pieces) -> Extent:
        """The same without some superpoints."""
        whole, torn = (~np.isin(one.indices, superpoints) for one in (self.whole, self.torn))
        held = self.held[np.repeat(torn, pieces.count[self.torn.indices])]
        return Extent(keep(self.whole, whole, dtype=np.int32), keep(self.torn, torn, dtype=np.int32), held)

    def joined(self, to: csr_matrix, pieces: Pieces) -> Extent:
        """What sets of these sets (J, G) hold."""
        sets = self.on_pieces(np.arange(self.whole.shape[0]), self.touched(pieces), pieces)
        held = (to @ sets).tocsr()
        number = (held.astype(bool).astype(np.int32) @ pieces.to_superpoint).tocsr()
        number.sort_indices()
        all_of = number.data == pieces.count[number.indices]
        torn = keep(number, ~all_of, dtype=np.int32)
        row = np.repeat(rows_of(torn), pieces.count[torn.indices])
        held.sort_indices()
        return Extent(keep(number, all_of, dtype=np.int32), torn, find(held, row, pieces.fan_out(torn.indices)) >= 0)

"""The order in which ``std::sort`` of libstdc++ leaves items; which of two equal ones comes first follows from its moves."""

from __future__ import annotations

from collections.abc import Sequence

SMALL = 16  # ranges up to this size are left to the insertion sort


def std_sort_order(keys: Sequence[float]) -> list[int]:
    """Places of the keys as ``std::sort(keys)`` moves them: median-of-three introsort, heap sort where it goes too deep."""
    order = list(range(len(keys)))
    _split(order, keys, 0, len(keys), 2 * max(len(keys).bit_length() - 1, 0))
    return sorted(order, key=keys.__getitem__)  # the insertion sort at the end keeps the order of equals, as this does


def _split(order: list[int], keys: Sequence[float], first: int, last: int, depth: int) -> None:
    while last - first > SMALL:
        if depth == 0:
            _heap_sort(order, keys, first, last)
            return
        depth -= 1
        median = _median(order, keys, first + 1, first + (last - first) // 2, last - 1)
        order[first], order[median] = order[median], order[first]
        cut = _partition(order, keys, first + 1, last, keys[order[first]])
        _split(order, keys, cut, last, depth)
        last = cut


def _median(order: list[int], keys: Sequence[float], a: int, b: int, c: int) -> int:
    x, y, z = keys[order[a]], keys[order[b]], keys[order[c]]
    if x < y:
        return b if y < z else c if x < z else a
    return a if x < z else c if y < z else b


def _partition(order: list[int], keys: Sequence[float], first: int, last: int, pivot: float) -> int:
    while True:
        while keys[order[first]] < pivot:
            first += 1
        last -= 1
        while pivot < keys[order[last]]:
            last -= 1
        if first >= last:
            return first
        order[first], order[last] = order[last], order[first]
        first += 1


def _heap_sort(order: list[int], keys: Sequence[float], first: int, last: int) -> None:
    heap = order[first:last]
    for parent in range(len(heap) // 2 - 1, -1, -1):
        _sift(heap, keys, parent, len(heap), heap[parent])
    for end in range(len(heap) - 1, 0, -1):
        item, heap[end] = heap[end], heap[0]
        _sift(heap, keys, 0, end, item)
    order[first:last] = heap


def _sift(heap: list[int], keys: Sequence[float], hole: int, count: int, item: int) -> None:
    """Let the hole sink along the larger children to the bottom, then the item rise from there."""
    top, child = hole, 2 * hole + 2
    while child <= count:
        if child == count or keys[heap[child]] < keys[heap[child - 1]]:
            child -= 1
        heap[hole] = heap[child]
        hole, child = child, 2 * child + 2
    while hole > top and keys[heap[(hole - 1) // 2]] < keys[item]:
        heap[hole] = heap[(hole - 1) // 2]
        hole = (hole - 1) // 2
    heap[hole] = item

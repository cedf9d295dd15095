"""Weights of sparse convolutions in the layouts that circulate, told apart by where the kernel's axes are.

Ours is spconv 2.x's, [out, x, y, z, in]. Files hold others: spconv 1.x's, the same turned once more by a conversion tool
that was run twice, and that of dense convolutions. A layout is read off the shape, so a tensor is never turned twice.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from torch import Tensor

#: Axes of each layout -> how to permute it to [out, x, y, z, in].
LAYOUTS: dict[str, tuple[int, int, int, int, int]] = {
    "[out, x, y, z, in]": (0, 1, 2, 3, 4),   # spconv 2.x (KRSC)
    "[x, y, z, in, out]": (4, 0, 1, 2, 3),   # spconv 1.x (RSCK)
    "[y, z, in, out, x]": (3, 4, 0, 1, 2),   # the latter, permuted as if it were the former
    "[out, in, x, y, z]": (0, 2, 3, 4, 1),   # dense
}
OURS = next(iter(LAYOUTS))


def find_layouts(tensors: Mapping[str, Tensor], wanted: Mapping[str, Sequence[int]]) -> dict[str, str]:
    """The layout of each 5-d tensor that is a kernel of the wanted shape [out, x, y, z, in], for whatever number of inputs.

    Where a shape fits several, since a kernel is as wide as it has channels, the tensor is laid out as most others are.
    """
    fitting = {name: [layout for layout, axes in LAYOUTS.items() if _fits(tensor, axes, wanted[name])]
               for name, tensor in tensors.items() if name in wanted and tensor.dim() == 5 and len(wanted[name]) == 5}
    votes = Counter(layouts[0] for layouts in fitting.values() if len(layouts) == 1)
    return {name: max(layouts, key=lambda layout: votes[layout]) for name, layouts in fitting.items() if layouts}


def _fits(tensor: Tensor, axes: Sequence[int], wanted: Sequence[int]) -> bool:
    return [tensor.shape[axis] for axis in axes[:4]] == list(wanted[:4])

"""Native ops with their torch references: what each means is in its own file."""

from pc3d.ops.segment import segment_pool, segment_softmax

__all__ = ["segment_pool", "segment_softmax"]

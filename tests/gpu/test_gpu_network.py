"""On a GPU the whole network says what it says on the CPU."""

from __future__ import annotations

import gpu_comparisons
import pytest

pytestmark = pytest.mark.gpu


def test_the_network_gives_the_numbers_of_the_cpu() -> None:
    rows = list(gpu_comparisons.compare_network("cuda"))
    assert not [row for row in rows if not row.ok], rows

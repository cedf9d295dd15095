"""frame_rows makes the rows that its torch reference makes, and those of a look."""

from __future__ import annotations

import pytest
import torch

from pc3d.ops import frame_rows
from pc3d.ops._library import has_kernel
from pc3d.ops.frame_rows import _reference

COLUMNS = 9000


def drawn(seed: int, width: int, ascending: bool):
    """Tables of three frames each, some without entries, of some of their rows; columns ascend or come in any order."""
    rng = torch.Generator().manual_seed(seed)
    rows = torch.randint(0, 20, (30,), generator=rng) if width == 3 else torch.ones(30, dtype=torch.int64)
    frames = []
    for number in rows.tolist():
        column = torch.randperm(COLUMNS, generator=rng)[:400 if number else 0]
        pair = torch.cartesian_prod(column.sort().values if ascending else column, torch.arange(1, number + 1))
        pair = pair[torch.rand(len(pair), generator=rng) < 0.3]
        count = torch.randint(1, 99, (len(pair), 1), generator=rng)
        frames.append(torch.cat([pair if width == 3 else pair[:, :1], count], 1).int())
    tables = [torch.cat(frames[first:first + 3]) for first in range(0, len(frames), 3)]
    return tables, torch.tensor([len(frame) for frame in frames]), rows, COLUMNS


@pytest.mark.parametrize("width", [2, 3])
@pytest.mark.parametrize("ascending", [False, True])
def test_the_kernel_makes_the_rows_of_the_reference(width, ascending):
    assert has_kernel("frame_rows")
    given = drawn(0, width, ascending)
    expected = _reference(*given)
    assert len(expected[1]) > 3000
    threads = torch.get_num_threads()
    for number in (1, 2, 5):
        torch.set_num_threads(number)
        assert all(map(torch.equal, frame_rows(*given), expected))
    torch.set_num_threads(threads)


def test_rows_of_frames_follow_each_other():
    """The first frame has masks 1 and 2, the next none, the last one that holds nothing and one that holds all."""
    table = torch.tensor([[4, 2, 7], [0, 1, 5], [0, 2, 6], [1, 2, 9]], dtype=torch.int32)
    starts, columns, counts = frame_rows([table[:3], table[3:]], torch.tensor([3, 0, 1]), torch.tensor([2, 0, 2]), 5)
    assert starts.tolist() == [0, 1, 3, 3, 4]
    assert columns.tolist() == [0, 0, 4, 1]
    assert counts.tolist() == [5, 6, 7, 9]


def test_no_frames_have_no_rows():
    none = torch.zeros(0, dtype=torch.int64)
    assert [one.tolist() for one in frame_rows([], none, none, 5)] == [[0], [], []]


def test_entries_that_do_not_fit_are_refused():
    table, (numbers, rows) = torch.tensor([[4, 2, 7], [0, 1, 5], [4, 1, 6]], dtype=torch.int32), torch.tensor([[3], [2]])
    for wrong, message in ((([table], numbers, rows, 5), "not beside those of its column"),
                           (([table[:2]], numbers - 1, rows, 4), "out of range"),
                           (([table[:2]], numbers - 1, rows - 1, 5), "out of range"),
                           (([table[:2] - 1], numbers - 1, rows, 5), "out of range"),
                           (([table[:2]], numbers, rows, 5), "not in one table"),
                           (([table], numbers - 1, rows, 5), "more entries than frames"),
                           (([], numbers, rows, 5), "more entries than tables"),
                           (([table[:2]], numbers - 1, -rows, 5), "below 0"),
                           (([table[:2].long()], numbers - 1, rows, 5), "tables must be"),
                           (([table[:2]], numbers - 1, rows.int(), 5), "rows must be")):
        with pytest.raises(ValueError, match=message):
            frame_rows(*wrong)

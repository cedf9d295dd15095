import pytest
import torch

from pc3d.errors import DataError
from pc3d.ops._library import has_kernel
from pc3d.ops.relative import MAX_COLUMNS, _add_reference, _read_reference, relative_add, relative_read

HEADS, QUERIES, KEYS, COLUMNS = 2, 5, 7, 12


def make_bins(queries: int = QUERIES, keys: int = KEYS, seed: int = 0) -> torch.Tensor:
    return torch.randint(0, COLUMNS, (3, queries, keys), generator=torch.Generator().manual_seed(seed)).short()


def draw(*shape: int, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64).to(dtype)


def test_read_sums_one_column_per_axis() -> None:
    bins, by_query, by_key = make_bins(), draw(HEADS, QUERIES, COLUMNS), draw(HEADS, KEYS, COLUMNS)
    queries, keys = relative_read(by_query, bins, by_key=False), relative_read(by_key, bins, by_key=True)
    for k in range(QUERIES):
        for m in range(KEYS):
            columns = bins[:, k, m].long()
            torch.testing.assert_close(queries[:, k, m], by_query[:, k, columns].sum(dim=1))
            torch.testing.assert_close(keys[:, k, m], by_key[:, m, columns].sum(dim=1))


@pytest.mark.parametrize("by_key", [False, True])
def test_add_is_the_adjoint_of_read(by_key: bool) -> None:
    bins, weights, rows = make_bins(), draw(HEADS, QUERIES, KEYS), draw(HEADS, KEYS if by_key else QUERIES, COLUMNS)
    torch.testing.assert_close((relative_read(rows, bins, by_key=by_key) * weights).sum(),
                               (relative_add(weights, bins, COLUMNS, by_key=by_key) * rows).sum())


@pytest.mark.parametrize("by_key", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("queries", "keys"), [(1, 1), (3, 64), (5, 65), (70, 200), (4, 0)])
def test_kernels_equal_their_reference(by_key: bool, dtype: torch.dtype, queries: int, keys: int) -> None:
    bins, weights = make_bins(queries, keys), draw(HEADS, queries, keys, dtype=dtype)
    rows = draw(HEADS, keys if by_key else queries, COLUMNS, dtype=dtype)
    torch.testing.assert_close(relative_read(rows, bins, by_key=by_key), _read_reference(rows, bins, by_key))
    added = relative_add(weights, bins, COLUMNS, by_key=by_key)
    torch.testing.assert_close(added, _add_reference(weights, bins, COLUMNS, by_key))


@pytest.mark.parametrize("by_key", [False, True])
def test_gradients_are_right(by_key: bool) -> None:
    bins, weights = make_bins(), draw(HEADS, QUERIES, KEYS).requires_grad_()
    rows = draw(HEADS, KEYS if by_key else QUERIES, COLUMNS).requires_grad_()
    assert torch.autograd.gradcheck(lambda r: relative_read(r, bins, by_key=by_key), (rows,))
    assert torch.autograd.gradcheck(lambda w: relative_add(w, bins, COLUMNS, by_key=by_key), (weights,))


@pytest.mark.parametrize("by_key", [False, True])
def test_number_of_threads_changes_no_bit(by_key: bool) -> None:
    bins, weights = make_bins(40, 300), draw(HEADS, 40, 300, dtype=torch.float32)
    threads = torch.get_num_threads()
    results = []
    for count in (1, 2, 3):
        torch.set_num_threads(count)
        results.append(relative_add(weights, bins, COLUMNS, by_key=by_key))
    torch.set_num_threads(threads)
    assert torch.equal(results[0], results[1])
    assert torch.equal(results[0], results[2])


@pytest.mark.skipif(not has_kernel("relative_read"), reason="native library not built")
@pytest.mark.parametrize("bad", [-1, COLUMNS])
def test_bin_out_of_range_is_refused(bad: int) -> None:
    bins = make_bins()
    bins[2, 4, 6] = bad
    with pytest.raises(ValueError, match="out of range"):
        relative_read(draw(HEADS, QUERIES, COLUMNS), bins, by_key=False)
    with pytest.raises(ValueError, match="out of range"):
        relative_add(draw(HEADS, QUERIES, KEYS), bins, COLUMNS, by_key=False)


@pytest.mark.parametrize("columns", [0, MAX_COLUMNS + 6])
def test_a_table_wider_than_int16_bins_is_refused(columns: int) -> None:
    bins = make_bins() - 20_000  # read as uint16 these would be columns of the wider table
    for call in (lambda: relative_read(draw(HEADS, QUERIES, columns), bins, by_key=False),
                 lambda: relative_add(draw(HEADS, QUERIES, KEYS), bins, columns, by_key=False)):
        with pytest.raises(DataError, match="1 to 32768"):
            call()


@pytest.mark.skipif(not has_kernel("relative_read"), reason="native library not built")
def test_the_kernel_itself_refuses_a_table_wider_than_int16_bins() -> None:
    for columns in (MAX_COLUMNS, MAX_COLUMNS + 6):
        with pytest.raises(ValueError, match="32768 columns" if columns > MAX_COLUMNS else "out of range"):
            torch.ops.pc3d.relative_read(draw(HEADS, QUERIES, columns), make_bins() - 20_000, False)


def test_the_widest_table_works() -> None:
    bins = torch.full((3, QUERIES, KEYS), MAX_COLUMNS - 1, dtype=torch.int16)
    rows = draw(HEADS, QUERIES, MAX_COLUMNS)
    torch.testing.assert_close(relative_read(rows, bins, by_key=False), 3 * rows[:, :, -1:].expand(-1, -1, KEYS))


def test_shapes_that_do_not_fit_are_named() -> None:
    with pytest.raises(DataError, match="rows do not fit"):
        relative_read(draw(HEADS, QUERIES + 1, COLUMNS), make_bins(), by_key=False)
    with pytest.raises(DataError, match="weights do not fit"):
        relative_add(draw(HEADS, KEYS, QUERIES), make_bins(), COLUMNS, by_key=False)
    with pytest.raises(DataError, match="int16"):
        relative_read(draw(HEADS, QUERIES, COLUMNS), make_bins().long(), by_key=False)


def test_half_types_accumulate_in_float32() -> None:
    bins, rows = make_bins(), draw(HEADS, QUERIES, COLUMNS, dtype=torch.bfloat16)
    read = relative_read(rows, bins, by_key=False)
    assert read.dtype == torch.bfloat16
    torch.testing.assert_close(read, _read_reference(rows.float(), bins, False).bfloat16())

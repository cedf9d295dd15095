import math

import pytest
import torch
from torch import Tensor

from pc3d.config import DecoderConfig
from pc3d.nn.attention import ContextualCrossAttention, Tokens
from pc3d.ops.relative import MAX_COLUMNS
from pc3d.ops.relative_attention import relative_bins

GRID, LENGTH, HEADS, WIDTH = 0.5, 3, 2, 8


@pytest.fixture
def attention() -> ContextualCrossAttention:
    torch.manual_seed(0)
    module = ContextualCrossAttention(WIDTH, HEADS, LENGTH, GRID).double()
    for name, table in module.named_parameters():
        if name.endswith("table"):
            torch.nn.init.normal_(table)
    return module


def tokens(sizes: list[int], seed: int) -> Tokens:
    generator = torch.Generator().manual_seed(seed)
    content, position, xyz = (torch.randn(sum(sizes), n, generator=generator, dtype=torch.float64) for n in (WIDTH, WIDTH, 3))
    return Tokens(content, position, xyz, sizes)


def literal(module: ContextualCrossAttention, queries: Tokens, keys: Tokens, blocked: Tensor) -> Tensor:
    """The equations, pair by pair, for one scan."""
    e = WIDTH // HEADS
    read = torch.zeros(len(queries.content), WIDTH, dtype=torch.float64)
    qc, qs = module.query_content(queries.content), module.query_position(queries.position)
    kc, kp, v = module.key_content(keys.content), module.key_position(keys.position), module.value(keys.content)
    for h in range(HEADS):
        part = slice(h * e, (h + 1) * e)
        for i in range(len(qc)):
            logits, values = [], []
            for j in range(len(kc)):
                steps = torch.floor((queries.xyz[i] - keys.xyz[j]) / GRID).clamp(-LENGTH, LENGTH - 1).long() + LENGTH
                columns = [int(n) + 2 * LENGTH * a for a, n in enumerate(steps)]
                logit = (qc[i, part] @ kc[j, part] + qs[i, part] @ kp[j, part]) / math.sqrt(2 * e)
                logit = logit + sum(qc[i, part] @ module.query_table[h, :, t] / math.sqrt(2 * e) for t in columns)
                logit = logit + sum(kc[j, part] @ module.key_table[h, :, t] for t in columns)
                logits.append(logit.new_tensor(-math.inf) if blocked[i, j] else logit)
                values.append(v[j, part] + sum(module.value_table[h, :, t] for t in columns))
            read[i, part] = torch.stack(logits).softmax(dim=0) @ torch.stack(values)
    return module.out(read)


def test_attention_is_its_equations(attention: ContextualCrossAttention) -> None:
    queries, keys = tokens([4], 1), tokens([7], 2)
    blocked = torch.rand(4, 7, generator=torch.Generator().manual_seed(3)) < 0.4
    torch.testing.assert_close(attention(queries, keys, [blocked]), literal(attention, queries, keys, blocked))


def test_scans_of_a_batch_never_meet(attention: ContextualCrossAttention) -> None:
    queries, keys = tokens([3, 4], 1), tokens([6, 5], 2)
    both = attention(queries, keys)
    alone = attention(Tokens(queries.content[3:], queries.position[3:], queries.xyz[3:], [4]),
                      Tokens(keys.content[6:], keys.position[6:], keys.xyz[6:], [5]))
    torch.testing.assert_close(both[3:], alone)


def test_blocked_keys_have_no_influence(attention: ContextualCrossAttention) -> None:
    queries, keys = tokens([4], 1), tokens([7], 2)
    blocked = torch.zeros(4, 7, dtype=torch.bool)
    blocked[:, 5:] = True
    first = Tokens(keys.content[:5], keys.position[:5], keys.xyz[:5], [5])
    torch.testing.assert_close(attention(queries, keys, [blocked]), attention(queries, first))


def test_bins_are_clamped_to_the_table() -> None:
    bins = relative_bins(torch.tensor([[100.0, -100.0, 0.0]]), torch.zeros(1, 3), LENGTH, GRID)
    assert bins.flatten().tolist() == [5, 6, 15]


def test_the_longest_grid_a_config_allows_fits_int16_bins_and_no_longer_one_is_allowed() -> None:
    longest = DecoderConfig(grid_length=MAX_COLUMNS // 6).grid_length
    with pytest.raises(ValueError, match="grid_length"):
        DecoderConfig(grid_length=longest + 1)
    far = torch.tensor([[0.0, 0, 0], [1e4, 1e4, 1e4]])
    bins = relative_bins(far, far, longest, 0.1)
    assert int(bins.min()) == 0
    assert int(bins.max()) == 6 * longest - 1

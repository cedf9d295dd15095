import pytest
import torch

from pc3d.losses.masks import bce_cost, bce_loss, dice_cost, dice_loss, mask_iou

GENERATOR = torch.Generator().manual_seed(0)
LOGITS = 3 * torch.randn(4, 9, generator=GENERATOR, dtype=torch.float64)
MASKS = (torch.rand(3, 9, generator=GENERATOR) < 0.4).double()


@pytest.mark.parametrize(("cost", "loss"), [(bce_cost, bce_loss), (dice_cost, dice_loss)])
def test_cost_of_a_pair_is_its_loss(cost, loss) -> None:
    costs = cost(LOGITS, MASKS)
    for query in range(4):
        for instance in range(3):
            torch.testing.assert_close(costs[query, instance], loss(LOGITS[query:query + 1], MASKS[instance:instance + 1]))


def test_costs_stay_finite_for_extreme_logits() -> None:
    logits = torch.tensor([[1e4, -1e4]])
    assert bce_cost(logits, torch.tensor([[0.0, 1.0]])).isfinite().all()


def test_iou_counts_superpoints() -> None:
    iou = mask_iou(torch.tensor([[1.0, 1.0, -1.0]]), torch.tensor([[1.0, 0.0, 1.0]]))
    assert float(iou) == pytest.approx(1 / 3, abs=1e-6)
    assert float(mask_iou(torch.tensor([[-1.0]]), torch.tensor([[0.0]]))) == 0

"""tools/mask2former_loss.py: dense targets of frames, and losses that only the truth makes small."""

from __future__ import annotations

import sys
from pathlib import Path

import torch

sys.path.append(str(Path(__file__).resolve().parents[2] / "tools"))

import mask2former_loss as script

NONE = 5    # of five classes


def examples() -> list[script.Example]:
    """A frame (16, 32) of two boxes, the second one half a cell wide at its right end, and one of nothing."""
    masks = torch.zeros(2, 16, 32)
    masks[0, 4:12, 0:8] = 1
    masks[1, 0:4, 16:26] = 1
    return [script.Example(torch.zeros(3, 16, 32), masks, torch.tensor([3, 1])),
            script.Example(torch.zeros(3, 16, 32), torch.zeros(0, 16, 32), torch.zeros(0, dtype=torch.int64))]


def answers(targets: script.Targets, order: list[int], sure: float = 9.0) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits of two layers and four queries that say the truth, its objects given to the queries of ``order``."""
    classes = torch.zeros(2, 2, 4, NONE + 1)
    masks = torch.full((2, 2, 4, targets.masks.shape[-1]), -sure)
    classes[..., NONE] = sure
    for query, mask, label in zip(order, targets.masks[0], targets.labels[0]):
        classes[:, 0, query, NONE], classes[:, 0, query, label] = 0, sure
        masks[:, 0, query] = (mask.clamp(1e-4, 1 - 1e-4)).logit().clamp(-sure, sure)
    return classes, masks


def test_targets_are_shares_of_cells_classes_and_boxes():
    targets = script.make_targets(examples())
    assert targets.masks.shape == (2, 2, 32)
    first, second = targets.masks[0].reshape(2, 4, 8)
    assert first.sum() == 4
    assert second[0].tolist() == [0, 0, 0, 0, 1, 1, 0.5, 0]
    assert not targets.masks[1].any()
    assert targets.classes[0].reshape(4, 8)[1].tolist() == [4, 4, 0, 0, 0, 0, 0, 0]
    assert targets.classes[0].reshape(4, 8)[0, 4:6].tolist() == [2, 2]
    torch.testing.assert_close(targets.boxes[0].reshape(4, 8, 4)[1, 0], torch.tensor([4 / 32, 0.5, 0.25, 0.5]))
    assert not targets.boxes[0].reshape(4, 8, 4)[3].any()


def test_costs_are_cross_entropy_plus_dice_of_every_pair():
    torch.manual_seed(0)
    logits, masks = torch.randn(3, 20), torch.rand(2, 20)
    costs = script.mask_costs(logits, masks)
    for query in range(3):
        for number in range(2):
            inside, mask = logits[query].sigmoid(), masks[number]
            entropy = torch.nn.functional.binary_cross_entropy(inside, mask)
            dice = 1 - (2 * (inside * mask).sum() + 1) / (inside.sum() + mask.sum() + 1)
            torch.testing.assert_close(costs[query, number], entropy + dice)


def test_the_truth_costs_little_in_any_order_and_faults_cost_more():
    targets = script.make_targets(examples())
    classes, masks = answers(targets, [0, 1])
    right = script.set_loss(classes, masks, targets)
    assert right < 0.6                                      # the half cell alone costs log 2 / 32 of entropy, and dice
    torch.testing.assert_close(script.set_loss(*answers(targets, [3, 2]), targets), right)
    wrong_name, wrong_mask, nothing = classes.clone(), masks.clone(), classes.clone()
    wrong_name[1, 0, 0] = wrong_name[1, 0, 0].roll(1)       # of one layer alone
    wrong_mask[0, 0, 1] = -9
    nothing[:] = torch.eye(NONE + 1)[NONE] * 9
    for faulty in ((wrong_name, masks), (classes, wrong_mask), (nothing, masks)):
        assert script.set_loss(*faulty, targets) > right + 0.5


def test_frames_of_nothing_teach_that_no_query_has_an_object():
    targets = script.make_targets(examples()[1:])
    classes, masks = torch.zeros(1, 1, 4, NONE + 1, requires_grad=True), torch.zeros(1, 1, 4, 32)
    script.set_loss(classes, masks, targets).backward()
    assert (classes.grad[..., NONE] < 0).all()


def test_the_dense_head_learns_class_and_box_of_each_pixel():
    torch.manual_seed(0)
    targets, features = script.make_targets(examples()), torch.randn(2, 40, 4, 8)
    head = script.DenseHead(40, NONE)
    optimizer = torch.optim.Adam(head.parameters(), lr=0.03)
    first = head(features, targets).detach()
    for _ in range(400):
        optimizer.zero_grad()
        head(features, targets).backward()
        optimizer.step()
    head.requires_grad_(False)
    learned = head(features, targets)
    assert learned < 0.1 * first
    elsewhere = targets._replace(boxes=targets.boxes + 0.2 * (targets.classes == 0)[..., None])
    torch.testing.assert_close(head(features, elsewhere), learned)      # boxes count on objects alone

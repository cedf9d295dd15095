"""Which scans a step sees: the same ones for any number of processes and parts, from any step on."""

import numpy as np
import pytest
import torch

from pc3d.data import ScanDataset
from pc3d.engine.batches import Plan, load_batches
from pc3d.engine.distributed import Processes
from pc3d.errors import ConfigError, DataError
from pc3d.io import write
from tests.engine.conftest import make_scan, write_dataset

CPU = torch.device("cpu")


def test_every_epoch_sees_every_scan_in_its_own_order():
    plan = Plan(scans=50, batch=5, parts=1, epochs=2, seed=3)
    keys = [key for step in range(plan.steps) for key in plan.scans_of(step)]
    first, second = keys[:50], keys[50:]
    assert [epoch for epoch, _ in keys] == [1] * 50 + [2] * 50
    assert sorted(index for _, index in first) == sorted(index for _, index in second) == list(range(50))
    assert [index for _, index in first] != [index for _, index in second]


def test_processes_and_parts_share_what_one_process_sees_in_one_part():
    whole = Plan(scans=30, batch=12, parts=1, epochs=3, seed=3)
    for step in range(whole.steps):
        shares = [Plan(30, 12, 3, 3, 3, rank=rank, processes=2).parts_of(step) for rank in range(2)]
        assert [[len(part) for part in share] for share in shares] == [[2, 2, 2], [2, 2, 2]]
        assert [key for share in shares for part in share for key in part] == whole.scans_of(step)


def test_batches_from_a_step_on_are_those_of_the_whole_run(config):
    scans = ScanDataset(config.data.root, "train")
    plan = Plan.of(config, len(scans), Processes(CPU))
    whole, rest = (list(load_batches(config, scans, plan, start)) for start in (0, 3))
    assert len(whole) == 4
    assert len(rest) == 1
    assert torch.equal(whole[3][0].features, rest[0][0].features)


@pytest.mark.parametrize("workers", [0, 2])
def test_what_is_wrong_with_a_scan_is_said_in_its_own_words(config, tmp_path, workers):
    scans = ScanDataset(write_dataset(tmp_path / "data").as_posix(), "train")
    scan = make_scan(2)
    write(scan.replace(labels=np.full(len(scan), 7)), scans.paths[2])
    config = config.with_overrides([f"data.root={scans.root}", f"data.workers={workers}"])
    with pytest.raises(DataError) as caught:
        list(load_batches(config, scans, Plan.of(config, len(scans), Processes(torch.device("cpu"))), 0))
    assert str(caught.value) == (f"{scans.paths[2]}:row 0: a label has no class name; got 7; expected labels below 2 "
                                 f"({scans.root / 'classes.json'})")


def test_loading_draws_nothing_from_the_random_numbers_of_the_network(config):
    scans = ScanDataset(config.data.root, "train")
    before = torch.get_rng_state()
    next(load_batches(config, scans, Plan.of(config, len(scans), Processes(CPU)), 0))
    assert torch.equal(torch.get_rng_state(), before)


def test_a_batch_larger_than_the_data_set_takes_all_of_it(config):
    plan = Plan.of(config.with_overrides(["train.batch_size=16"]), 5, Processes(CPU, 0, 2))
    assert (plan.batch, plan.steps_per_epoch) == (4, 1)


@pytest.mark.parametrize(("overrides", "scans", "error", "words"), [
    (["train.batch_size=6"], 9, ConfigError, "a multiple of 4: 4 processes"),
    (["train.batch_size=4", "train.accumulate=2"], 9, ConfigError, r"multiple of 8: .* 2 parts"),
    (["train.batch_size=8"], 3, DataError, "3 scans; expected 4 or more")])
def test_batches_that_cannot_be_dealt_out_are_refused(config, overrides, scans, error, words):
    with pytest.raises(error, match=words):
        Plan.of(config.with_overrides(overrides), scans, Processes(CPU, 0, 4))

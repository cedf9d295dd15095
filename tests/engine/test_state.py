"""Training states: whole or not there, and what they say they are."""

import resource

import pytest
import torch

from pc3d.engine.run import remove_leftovers
from pc3d.engine.state import load_state, newest_state, random_state, save_state, set_random_state, states
from pc3d.errors import CheckpointError, FileError

STATE = {"weights": torch.arange(5.0), "step": 3, "names": ["a", None], "best": 0.1}


def test_a_state_is_read_as_it_was_without_running_code(tmp_path):
    path = save_state(tmp_path, 3, STATE, keep=2)
    assert torch.equal(torch.load(path, weights_only=True)["weights"], STATE["weights"])
    state = load_state(path)
    assert torch.equal(state.pop("weights"), STATE["weights"])
    assert state == {key: value for key, value in STATE.items() if key != "weights"}


def test_the_last_ones_stay(tmp_path):
    for step in (5, 10, 20, 1000):
        save_state(tmp_path, step, {**STATE, "step": step}, keep=2)
    assert [load_state(path)["step"] for path in states(tmp_path)] == [20, 1000]


def test_a_damaged_state_is_passed_over_with_a_warning(tmp_path):
    save_state(tmp_path, 1, {**STATE, "step": 1}, keep=2)
    path = save_state(tmp_path, 2, STATE, keep=2)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.warns(UserWarning, match="is damaged"):
        assert newest_state(tmp_path)["step"] == 1
    states(tmp_path)[0].write_bytes(b"")
    with pytest.warns(UserWarning, match="is damaged"), pytest.raises(CheckpointError, match="2 damaged"):
        newest_state(tmp_path)


def test_a_run_without_states_has_none(tmp_path):
    assert newest_state(tmp_path) is None


def test_a_full_disk_is_an_error_that_leaves_the_last_state(tmp_path):
    save_state(tmp_path, 1, STATE, keep=1)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, limits[1]))  # a file larger than this cannot be written
    try:
        with pytest.raises(FileError, match=r"cannot be written.*has room"):
            save_state(tmp_path, 2, {"weights": torch.zeros(100_000), "step": 2}, keep=1)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert newest_state(tmp_path)["step"] == STATE["step"]
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == [states(tmp_path)[0].name]


def test_what_a_killed_writer_left_is_removed(tmp_path):
    save_state(tmp_path, 1, STATE, keep=1)
    (tmp_path / "states" / ".step-000000002-0.pt.99.tmp").touch()
    (tmp_path / ".last.safetensors.99.tmp").touch()
    remove_leftovers(tmp_path)
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == [states(tmp_path)[0].name]


def test_random_numbers_go_on_where_they_were():
    state = random_state(torch.device("cpu"))
    first = torch.rand(3)
    set_random_state(state, torch.device("cpu"))
    assert torch.equal(torch.rand(3), first)

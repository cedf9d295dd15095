import json
import os
import re
from pathlib import Path

import pytest
import torch

from pc3d.config import BackboneConfig, DecoderConfig, ModelConfig
from pc3d.errors import CheckpointError, FileError
from pc3d.models import Relation3D, build, load_into, load_model, save_model
from pc3d.models.checkpoint import load_weights, read_foreign

CONFIG = ModelConfig(classes=("chair", "table"), backbone=BackboneConfig(channels=(4, 8), block_reps=1),
                     decoder=DecoderConfig(num_queries=3, d_model=8, num_heads=2, d_ffn=16, num_layers=1))


def make(seed: int = 0) -> Relation3D:
    torch.manual_seed(seed)
    return build(CONFIG)


def same(a: Relation3D, b: Relation3D) -> bool:
    return all(torch.equal(tensor, b.state_dict()[name]) for name, tensor in a.state_dict().items())


def test_saved_network_loads_bit_for_bit_in_evaluation_mode(tmp_path: Path) -> None:
    model = make()
    save_model(model, tmp_path / "new" / "network")
    loaded = load_model(tmp_path / "new" / "network.safetensors")
    assert same(model, loaded)
    assert loaded.config == CONFIG
    assert not loaded.training


def test_half_precision_stores_matrices_only(tmp_path: Path) -> None:
    model = make()
    save_model(model, tmp_path / "half", dtype=torch.float16)
    loaded = load_model(tmp_path / "half.safetensors").state_dict()
    parameters = dict(model.named_parameters())
    for name, tensor in model.state_dict().items():
        rounded = name in parameters and tensor.dim() > 1
        assert loaded[name].dtype == tensor.dtype
        assert torch.equal(loaded[name], tensor.half().float() if rounded else tensor), name


def test_sidecar_says_what_the_weights_are(tmp_path: Path) -> None:
    save_model(make(), tmp_path / "a.safetensors")
    record = json.loads((tmp_path / "a.json").read_text())
    assert record["classes"] == ["chair", "table"]
    assert record["config"]["decoder"]["d_model"] == 8
    assert re.fullmatch("[0-9a-f]{64}", record["sha256"])


@pytest.mark.parametrize("crash_at", [0, 1, 2])
def test_crash_while_saving_leaves_a_network_that_loads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, crash_at: int) -> None:
    old, new = make(0), make(1)
    save_model(old, tmp_path / "a")
    replace, calls = os.replace, []

    def crash(source: str, target: str) -> None:
        if len(calls) == crash_at:
            raise KeyboardInterrupt
        calls.append(target)
        replace(source, target)

    monkeypatch.setattr(os, "replace", crash)
    with pytest.raises(KeyboardInterrupt):
        save_model(new, tmp_path / "a")
    assert same(load_model(tmp_path / "a.safetensors"), new if crash_at == 2 else old)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.json", "a.safetensors"]


def test_a_crash_in_each_of_two_saves_leaves_a_network_that_loads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that is killed at the same place again, before the weights follow their description."""
    save_model(make(0), tmp_path / "a")
    replace = os.replace

    def crash(source: str, target: Path) -> None:
        if target.suffix == ".safetensors":
            raise KeyboardInterrupt
        replace(source, target)

    with monkeypatch.context() as patched:
        patched.setattr(os, "replace", crash)
        for seed in (1, 2):
            with pytest.raises(KeyboardInterrupt):
                save_model(make(seed), tmp_path / "a")
            assert same(load_model(tmp_path / "a.safetensors"), make(0))
    save_model(make(3), tmp_path / "a")
    assert same(load_model(tmp_path / "a.safetensors"), make(3))
    assert "previous" not in json.loads((tmp_path / "a.json").read_text())


def test_damaged_weights_are_refused(tmp_path: Path) -> None:
    save_model(make(), tmp_path / "a")
    content = bytearray((tmp_path / "a.safetensors").read_bytes())
    content[-1] ^= 1
    (tmp_path / "a.safetensors").write_bytes(content)
    with pytest.raises(CheckpointError, match="sha256"):
        load_model(tmp_path / "a.safetensors")


@pytest.mark.parametrize("text", ["", "[]", "{}", "{\"sha256\": 3, \"config\": 1}"])
def test_broken_sidecar_is_refused(tmp_path: Path, text: str) -> None:
    save_model(make(), tmp_path / "a")
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(CheckpointError, match=r"a\.json"):
        load_model(tmp_path / "a.safetensors")


def test_missing_sidecar_is_named(tmp_path: Path) -> None:
    save_model(make(), tmp_path / "a")
    (tmp_path / "a.json").unlink()
    with pytest.raises(FileError, match=r"a\.json"):
        load_model(tmp_path / "a.safetensors")


def test_weights_that_do_not_fit_are_named() -> None:
    model = make()
    tensors = dict(model.state_dict())
    tensors["decoder.surprise"] = tensors.pop("decoder.norm.bias")
    tensors["decoder.reference_points"] = torch.zeros(5, 3)
    with pytest.raises(CheckpointError) as error:
        load_weights(model, tensors, where="here")
    for part in ("missing: decoder.norm.bias", "unexpected: decoder.surprise",
                 "other shape: decoder.reference_points (5, 3) instead of (3, 3)"):
        assert part in str(error.value)


def test_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(FileError, match="relation3d-synth"):
        load_model("relation3d-nowhere")


@pytest.mark.parametrize(("name", "words"), [
    ("one.ply", r"one\.ply: this is no model; expected a \.safetensors file"), ("m.json", r"expected a \.safetensors file"),
    ("released.pth", "pc3d convert"), ("run", r"a folder.*run/best\.safetensors")])
def test_what_is_no_model_says_what_is_expected(tmp_path: Path, name: str, words: str) -> None:
    (tmp_path / name).touch() if "." in name else (tmp_path / name).mkdir()
    with pytest.raises(FileError, match=words):
        load_model(tmp_path / name)


def test_a_packaged_network_that_is_missing_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pc3d.models.registry.WEIGHTS", tmp_path)
    with pytest.raises(FileError, match=r"missing from the installation\. Install pc3d again, or train"):
        load_model("relation3d-synth")


def test_a_network_starts_from_the_weights_of_another_and_says_where_their_configs_differ(tmp_path: Path) -> None:
    old = make(0)
    save_model(old, tmp_path / "old")
    new = build(CONFIG.with_overrides(["loss.dice=2.0"]))
    assert load_into(new, tmp_path / "old.safetensors") == ("loss.dice: 2.0, in the weights 1.0",)
    assert same(old, new)


def test_a_network_for_other_classes_learns_them_anew(tmp_path: Path) -> None:
    old = make(0)
    save_model(old, tmp_path / "old")
    new = build(CONFIG.with_overrides(["classes=[sofa, bed, lamp]"]))
    fresh = new.state_dict()["decoder.heads.classes.2.weight"].clone()
    told = load_into(new, tmp_path / "old.safetensors")
    assert told[0] == "classes: ('sofa', 'bed', 'lamp'), in the weights ('chair', 'table')"
    assert "decoder.heads.classes.2.weight, decoder.heads.classes.2.bias stay fresh" in told[1]
    state = new.state_dict()
    assert torch.equal(state["decoder.heads.classes.2.weight"], fresh)
    assert all(torch.equal(state[name], tensor) for name, tensor in old.state_dict().items() if "classes.2" not in name)


def test_weights_of_another_architecture_are_refused_with_both_kinds_of_differences(tmp_path: Path) -> None:
    save_model(make(), tmp_path / "old")
    new = build(CONFIG.with_overrides(["decoder.d_ffn=32"]))
    before = {name: tensor.clone() for name, tensor in new.state_dict().items()}
    with pytest.raises(CheckpointError, match=r"ffn(.|\n)*model\.decoder\.d_ffn: 32, in the weights 16"):
        load_into(new, tmp_path / "old.safetensors")
    assert all(torch.equal(before[name], tensor) for name, tensor in new.state_dict().items())


def test_foreign_file_that_would_run_code_is_refused(tmp_path: Path) -> None:
    class Attack:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "ran"),)

    torch.save({"model": Attack()}, tmp_path / "bad.pth")
    with pytest.raises(CheckpointError, match=r"bad\.pth.*UnpicklingError, it wants \S*mkdir.*torch\.save") as error:
        read_foreign(tmp_path / "bad.pth")
    assert not (tmp_path / "ran").exists()
    assert "weights_only" not in str(error.value)

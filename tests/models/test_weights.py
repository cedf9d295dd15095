"""The networks that ship with pc3d: there, small, loadable, and knowing their classes."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest
import torch

from pc3d.config import BackboneConfig, DecoderConfig, ModelConfig, load_config
from pc3d.models import build, load_model, save_model
from pc3d.models.registry import find_weights
from pc3d.synth.classes import SCANNET_CLASSES
from pc3d.weights import DEFAULT_MODEL, MODELS

ROOT = Path(__file__).resolve().parents[2]
CLASSES = {"relation3d-synth": SCANNET_CLASSES}


def test_the_default_network_ships() -> None:
    assert DEFAULT_MODEL in MODELS
    assert CLASSES.keys() == MODELS.keys()


@pytest.mark.parametrize("name", MODELS)
def test_a_network_that_ships_is_small_loads_and_knows_its_classes(name: str) -> None:
    path = find_weights(name)
    assert path.stat().st_size < 10e6
    model = load_model(name)
    assert model.config.classes == CLASSES[name]
    assert all(torch.isfinite(tensor).all() for tensor in model.state_dict().values())


def test_shipping_halves_the_matrices_of_a_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                                   capsys: pytest.CaptureFixture[str]) -> None:
    torch.manual_seed(0)
    model = build(ModelConfig(classes=("chair",), backbone=BackboneConfig(channels=(8, 16), block_reps=1),
                              decoder=DecoderConfig(num_queries=3, d_model=32, num_heads=2, d_ffn=16, num_layers=1)))
    save_model(model, tmp_path / "run" / "best")
    monkeypatch.setattr("pc3d.weights.WEIGHTS", tmp_path)
    monkeypatch.setattr("sys.argv", ["ship_weights.py", str(tmp_path / "run" / "best.safetensors"), DEFAULT_MODEL,
                                     str(ROOT / "configs" / "relation3d_synth.yaml")])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(ROOT / "tools" / "ship_weights.py"), run_name="__main__")
    assert ended.value.code == 0
    shipped = tmp_path / MODELS[DEFAULT_MODEL]
    assert f"wrote {shipped}: " in capsys.readouterr().out
    assert shipped.stat().st_size < 0.6 * (tmp_path / "run" / "best.safetensors").stat().st_size
    network = load_model(shipped)
    torch.testing.assert_close(network.state_dict(), model.state_dict(), rtol=1e-3, atol=1e-4)
    assert network.config.inference == load_config(ROOT / "configs" / "relation3d_synth.yaml").model.inference

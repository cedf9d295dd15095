from __future__ import annotations

import re
from pathlib import Path

import pytest
from pydantic import ValidationError

from pc3d.config import ExperimentConfig, ModelConfig, load_config, paper_settings, read_yaml, to_yaml
from pc3d.errors import ConfigError, FileError
from pc3d.synth.classes import SCANNET_CLASSES

CONFIGS = sorted((Path(__file__).resolve().parent.parent / "configs").glob("relation3d*.yaml"))


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "config.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_an_unknown_key_names_the_nearest_one(tmp_path: Path) -> None:
    path = written(tmp_path, "train:\n  epoch: 3\n")
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    assert str(caught.value) == f"{path}: unknown key 'train.epoch'. Did you mean 'train.epochs'?"


def test_a_key_like_no_other_lists_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="Known keys here: model, data, augment, train"):
        load_config(written(tmp_path, "zzz: 1\n"))


def test_every_problem_is_reported_with_its_key_and_value(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(written(tmp_path, "train: {epochs: 0, lr: fast}\n"))
    first, second = str(caught.value).splitlines()
    assert "train.epochs" in first
    assert first.endswith("got 0")
    assert "train.lr" in second
    assert second.endswith("got 'fast'")


@pytest.mark.parametrize(("override", "value"), [("1e-4", 1e-4), ("0.5", 0.5), ("2", 2.0)])
def test_numbers_on_the_command_line_are_numbers(tmp_path: Path, override: str, value: float) -> None:
    assert load_config(written(tmp_path, "{}"), [f"train.lr={override}"]).train.lr == value


def test_a_later_override_wins_over_the_file_and_over_an_earlier_one(tmp_path: Path) -> None:
    config = load_config(written(tmp_path, "train: {epochs: 1}\n"), ["train.epochs=2", "train.epochs=3"])
    assert config.train.epochs == 3


def test_a_tile_of_0_is_none_as_on_the_command_line(tmp_path: Path) -> None:
    path = written(tmp_path, "model: {inference: {tile: 0}}\n")
    assert load_config(path).model.inference.tile is None
    assert load_config(path, ["model.inference.tile=6"]).model.inference.tile == 6
    with pytest.raises(ConfigError, match=r"model\.inference\.tile: Input should be greater than or equal to 1; got 0\.5"):
        load_config(path, ["model.inference.tile=0.5"])


def test_an_override_reaches_lists_and_empty_sections(tmp_path: Path) -> None:
    config = load_config(written(tmp_path, "train:\n"), ["model.backbone.channels=[8, 16]", "train.output=2026"])
    assert config.model.backbone.channels == (8, 16)
    assert config.train.output == "2026"


@pytest.mark.parametrize("override", [
    "train.lr", "=3", "train.lr.x=3", "train.lr=[1,", "train.lr=nan", "train.lr=.inf", "train=3"])
def test_a_malformed_override_is_a_config_error(tmp_path: Path, override: str) -> None:
    with pytest.raises(ConfigError):
        load_config(written(tmp_path, "train: {lr: 0.1}\n"), [override])


@pytest.mark.parametrize(("key", "value"), [
    ("model.backbone.channels", "[]"), ("model.backbone.channels", "[8, 0]"), ("augment.elastic", "[[0, 40]]"),
    ("augment.scale", "[0, 1]"), ("augment.scale", "[1.1, 0.9]"), ("augment.keep_points", "[0, 1]"),
    ("augment.keep_points", "[0.5, 1.5]"), ("augment.keep_points", "[0.7, 0.3]"), ("train.seed", "-1")])
def test_values_out_of_range_name_their_key_and_where_they_come_from(tmp_path: Path, key: str, value: str) -> None:
    with pytest.raises(ConfigError, match=f"^command line: {key}.*; got "):
        load_config(written(tmp_path, "{}"), [f"{key}={value}"])
    parents = key.split(".")
    text = "".join(f"{'  ' * depth}{name}:\n" for depth, name in enumerate(parents[:-1])) + f"      {parents[-1]}: {value}\n"
    with pytest.raises(ConfigError, match=rf"config\.yaml: {key}.*; got "):
        load_config(written(tmp_path, text), ["train.lr=1e-3"])


@pytest.mark.parametrize(("override", "words"), [
    ("train.epoch=3", "command line: unknown key 'train.epoch'. Did you mean 'train.epochs'?"),
    ("augment.window=4", "command line: augment.window: Input should be a list, as in [1, 2]; got 4"),
    ("augment.scale=[1.1, 0.9]", "command line: augment.scale: the lower end comes first; got [1.1, 0.9]"),
    ("train=3", "command line: train: ")])
def test_an_override_takes_the_blame_for_its_own_errors_alone(tmp_path: Path, override: str, words: str) -> None:
    path = written(tmp_path, "data: {workers: -1}\n")
    with pytest.raises(ConfigError) as caught:
        load_config(path, [override])
    lines = str(caught.value).splitlines()
    assert any(line.startswith(words) for line in lines)
    assert any(line.startswith(f"{path}: data.workers") for line in lines)


@pytest.mark.parametrize("text", ["", "# no key\n", "a: [", "- 1\n- 2\n", "a: !!python/object/apply:os.system [true]", "\tx: 1",
                                  "x: 2026-99-99"])
def test_text_that_is_no_safe_mapping_is_a_config_error(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError, match=r"config\.yaml"):
        read_yaml(written(tmp_path, text))


def test_a_yaml_bomb_costs_nothing(tmp_path: Path) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 12)]
    with pytest.raises(ConfigError) as caught:
        load_config(written(tmp_path, "\n".join([*lines, "train: *a11"])))
    assert len(str(caught.value)) < 10_000


def test_bytes_that_are_no_text_and_missing_files_say_so(tmp_path: Path) -> None:
    binary = tmp_path / "binary.yaml"
    binary.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="utf-8"):
        read_yaml(binary)
    with pytest.raises(FileError, match="cannot read the config"):
        read_yaml(tmp_path / "none.yaml")


def test_a_folder_of_scans_is_no_config(tmp_path: Path) -> None:
    with pytest.raises(FileError, match=f"the folder of the scans is its data.root: data.root={tmp_path}$"):
        read_yaml(tmp_path)


def test_what_is_written_reads_back_the_same(tmp_path: Path) -> None:
    config = ExperimentConfig().with_overrides(["train.lr=1e-5", "model.classes=[chair, table]", "augment.scale=[0.9, 1.1]"])
    (tmp_path / "out.yaml").write_text(to_yaml(config))
    assert load_config(tmp_path / "out.yaml") == config


def test_a_config_cannot_be_changed_in_place() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        ModelConfig().setting = "paper"  # type: ignore[misc]


@pytest.mark.parametrize("overrides", [[], ["model.setting=paper"]])
def test_the_paper_setting_switches_every_quirk_on(tmp_path: Path, overrides: list[str]) -> None:
    path = written(tmp_path, "{}" if overrides else "model: {setting: paper}\n")
    assert load_config(path, overrides).model == paper_settings(ModelConfig())


def test_a_key_given_beside_the_paper_setting_stays(tmp_path: Path) -> None:
    path = written(tmp_path, "model: {setting: paper, loss: {final_dice: mean}}\n")
    config = load_config(path, ["model.inference.score_decimals=3"])
    assert config.model.loss.final_dice == "mean"
    assert config.model.inference.score_decimals == 3
    assert config.model.loss.unlabelled == "one_instance"


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_the_shipped_configs_load(path: Path) -> None:
    assert load_config(path).model.setting in ("default", "paper")


def test_the_config_of_the_released_weights_names_the_18_classes_of_scannet() -> None:
    path = next(path for path in CONFIGS if path.stem == "relation3d_scannetv2")
    assert load_config(path).model.classes == SCANNET_CLASSES
    assert len(SCANNET_CLASSES) == 18


def test_every_option_that_the_docs_name_is_a_key_of_the_config() -> None:
    text = (CONFIGS[0].parent.parent / "docs" / "training.md").read_text()
    flat = {f"{section}.{key}" for section, key in re.findall(r"`(\w+)\.([\w.]+)(?:=[^`]*|: [^`]*)?`", text)}
    options = {name for name in flat if not name.endswith((".yaml", ".jsonl", ".json"))}
    assert {"model.loss.final_dice", "model.inference.nms_area", "train.grad_clip", "model.setting"} <= options
    for option in options:
        value: object = ExperimentConfig()
        for key in option.split("."):
            assert hasattr(value, key), option
            value = getattr(value, key)

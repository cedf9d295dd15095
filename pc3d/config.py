"""Typed configs: pydantic models read from safe yaml, with dotted overrides such as ``train.lr=1e-4``.

A config is data. An unknown key is an error that names the nearest known one, and nothing in a config can run code.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from pc3d.errors import ConfigError, FileError, explain


def _ordered(span: tuple[float, float]) -> tuple[float, float]:
    if span[0] > span[1]:
        raise ValueError("the lower end comes first")
    return span


Count = Annotated[int, Field(ge=1)]
Positive = Annotated[float, Field(gt=0)]
Share = Annotated[float, Field(gt=0, le=1)]
Span = Annotated[tuple[Positive, Positive], AfterValidator(_ordered)]   # from, to
Tile = Annotated[Annotated[float, Field(ge=1)] | None, BeforeValidator(lambda side: side or None)]     # 0: none
Shares = Annotated[tuple[Share, Share], AfterValidator(_ordered)]


class Config(BaseModel):
    """Base of all configs: frozen, closed to unknown keys, and free of NaN and infinity."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, coerce_numbers_to_str=True)

    def with_overrides(self, overrides: Iterable[str]) -> Any:
        """Return a copy with dotted ``key=value`` overrides applied; values are read as yaml."""
        tree = self.model_dump()
        for override in overrides:
            _override(tree, override)
        return build(type(self), tree, where=None)


class BackboneConfig(Config):
    """Sparse-convolution U-Net (relation to SSTNet/SPFormer: same layout)."""

    channels: tuple[Count, ...] = Field((32, 64, 96, 128, 160), min_length=1)  # per level, finest first
    block_reps: int = Field(2, ge=1)                     # residual blocks per level and direction
    voxel_size: float = Field(0.02, gt=0)                # metres
    spatial_shape: Literal["even", "batch"] = "even"     # even: no voxel is lost. Paper: batch, max(coord + 1, 128)
    engine: Literal["auto", "native", "spconv"] = "auto"
    precision: Literal["float32", "bfloat16"] = "float32"  # of its features; sums, norms and parameters stay float32


class DecoderConfig(Config):
    """Relation3D query decoder."""

    num_layers: int = Field(6, ge=1)
    num_queries: int = Field(400, ge=1)
    d_model: int = Field(256, ge=8)
    num_heads: int = Field(8, ge=1)
    d_ffn: int = Field(1024, ge=1)
    dropout: float = Field(0.0, ge=0, lt=1)
    attn_mask_threshold: float = Field(0.1, ge=0, le=1)
    grid_length: int = Field(24, ge=1, le=5461)          # relative positions are quantised to 2 * grid_length bins an axis
    grid_size: float = Field(0.1, gt=0)                  # metres per bin
    refine_every: int = Field(3, ge=1)                   # CLSR after layers 0, r, 2r, ...
    asam: bool = True                                    # off: mean pooling
    clsr: bool = True                                    # off: superpoint features stay as they are
    rsa: bool = True                                     # off: plain self-attention
    min_box_size: float = Field(0.05, ge=0)              # metres; floor of a query box in RSA. Paper: 0


class LossConfig(Config):
    """Loss and matching weights; the last block are the paper's quirks by name."""

    cls: float = 0.5
    bce: float = 1.0
    dice: float = 1.0
    center: float = 0.5
    score: float = 0.5
    contrastive: float = 1.0
    semantic: float = 0.0                                # class of each superpoint before the decoder. Paper: no such loss
    cost_cls: float = 0.5
    cost_bce: float = 1.0
    cost_dice: float = 1.0
    cost_center: float = 0.5
    no_object: float = 0.1
    final_dice: Literal["mean", "sum"] = "mean"          # sum: the paper's missing division over scans in the last layer
    contrastive_states: Literal["distinct", "all"] = "distinct"      # all: 7 states, unrefined ones counted again
    relation_labels: Literal["majority", "floor_mean"] = "majority"  # instance id of a superpoint
    unlabelled: Literal["ignore", "one_instance"] = "ignore"         # superpoints without an instance in the contrastive loss


class InferenceConfig(Config):
    """From queries to instances."""

    topk: int = Field(800, ge=1)
    score_threshold: float = 0.0
    min_points: int = Field(100, ge=0)
    nms_iou: float = Field(0.75, ge=0, le=1)
    nms_area: Literal["points", "superpoints"] = "points"
    nms_order: Literal["score", "class"] = "score"       # which of two masks stays. Paper: that of the surer class
    score_head: bool = False                             # multiply by the predicted mask IoU, as MAFT. Paper: no
    score_decimals: int | None = None                    # paper: 1
    split_gap: float | None = Field(None, gt=0)          # metres; masks whose parts lie farther apart are cut. Paper: no
    views: int = Field(1, ge=1, le=4)                    # sides that a scan is looked at from, see models/proposals.py
    tile: Tile = None                                    # metres; larger scans are looked at in squares of this side. Paper: no
    grey_views: bool = False                             # every second view without colours; for augment.drop_color
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"  # of the network's products; fp16 is for GPUs


class ModelConfig(Config):
    """One Relation3D network."""

    setting: Literal["default", "paper"] = "default"     # recorded; `paper_settings` sets every quirk
    size: Literal["small", "medium", "large"] = "medium"  # recorded; `load_config` fills in SIZES. Paper: medium
    classes: tuple[str, ...] = ()
    use_rgb: bool = True
    use_normals: bool = True
    backbone: BackboneConfig = BackboneConfig()
    decoder: DecoderConfig = DecoderConfig()
    loss: LossConfig = LossConfig()
    inference: InferenceConfig = InferenceConfig()

    @property
    def in_channels(self) -> int:
        """Point features: rgb in [-1, 1], centred xyz in metres, normal."""
        return 3 + 3 * self.use_rgb + 3 * self.use_normals


#: Dotted keys that turn a default model into the paper's code, quirks included.
PAPER_SETTINGS = (
    "setting=paper", "backbone.spatial_shape=batch", "decoder.min_box_size=0.0", "loss.final_dice=sum",
    "loss.contrastive_states=all", "loss.relation_labels=floor_mean", "loss.unlabelled=one_instance",
    "inference.nms_area=superpoints", "inference.nms_order=class", "inference.score_decimals=1",
)


#: Dotted keys behind ``size``; medium is the paper's network and the default of every key.
SIZES = {
    "small": ("backbone.channels=[16, 32, 48, 64, 80]", "decoder.num_layers=4", "decoder.d_model=128", "decoder.num_heads=4",
              "decoder.d_ffn=512"),
    "medium": (),
    "large": ("backbone.channels=[48, 96, 144, 192, 240]", "decoder.d_model=384", "decoder.num_heads=12", "decoder.d_ffn=1536"),
}


def paper_settings(model: ModelConfig) -> ModelConfig:
    """The same network with every quirk of the paper's code switched on."""
    result: ModelConfig = model.with_overrides(PAPER_SETTINGS)
    return result


class DataConfig(Config):
    """Where the scans are and how they become samples."""

    dataset: Literal["scans"] = "scans"                  # <split>/*.ply with label and instance columns, or prepared scenes
    root: str = "data/synth"
    train_split: str = "train"                           # several joined by commas
    val_split: str = "val"
    max_points: int = Field(250_000, ge=1)               # training crops to this many points
    workers: int = Field(0, ge=0)


class AugmentConfig(Config):
    """Relation3D section 4 augmentation (see docs/training.md), and what helps on scans unlike the training ones."""

    jitter: float = Field(0.1, ge=0)                     # sigma of the noise on the 3x3 transform
    flip: bool = True
    rotate: bool = True
    color_shift: float = Field(0.1, ge=0)
    elastic: tuple[tuple[Positive, float], ...] = ((6.0, 40.0), (20.0, 160.0))  # (granularity, magnitude) in voxels
    scale: Span = (1.0, 1.0)
    keep_points: Shares = (1.0, 1.0)                     # share of the points that stays, drawn per scan. Paper: all
    drop_color: float = Field(0.0, ge=0, le=1)           # chance to train a scan without colour. Paper: 0
    drop_normals: float = Field(0.0, ge=0, le=1)         # same for normals. Paper: 0
    neighbours: float = Field(0.0, ge=0, le=1)           # chance to train on a window on four scans wall to wall. Paper: 0
    window: Span = (4.0, 8.0)                            # metres; sides of such windows, of which inference.tile is one


class GroupConfig(Config):
    """Parameters whose names start with a prefix, and what differs for them."""

    prefix: str = Field(min_length=1)                    # backbone., asam., decoder., ...
    lr: float = Field(1.0, ge=0)                         # factor on train.lr; 0 freezes them
    weight_decay: float | None = Field(None, ge=0)       # none: train.weight_decay


class TrainConfig(Config):
    """Optimisation."""

    output: str = "runs/relation3d"
    init: str | None = None                              # weights to start from: a name or a path
    epochs: int = Field(512, ge=1)
    batch_size: int = Field(6, ge=1)                     # scans per step, over all processes and accumulated parts
    accumulate: int = Field(1, ge=1)                     # parts that a process runs its share of a step in
    lr: float = Field(2e-4, gt=0)
    weight_decay: float = Field(0.05, ge=0)
    decay: Literal["all", "matrices"] = "all"            # matrices: none on biases and norms. Paper: all
    groups: tuple[GroupConfig, ...] = ()                 # the first whose prefix fits a parameter counts
    schedule: Literal["poly", "cosine"] = "poly"         # poly steps once per epoch, cosine every step. Paper: poly
    poly_power: float = Field(0.9, ge=0)
    warmup_steps: int = Field(0, ge=0)                   # the rate grows linearly over the first steps. Paper: 0
    grad_clip: float = Field(0.0, ge=0)                  # 0: off, as the paper
    ema: float = Field(0.0, ge=0, lt=1)                  # decay of averaged weights, which are evaluated and kept; 0: off
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    deterministic: bool = False                          # the same bits on a GPU too, slower; a CPU always is
    max_nonfinite: int = Field(10, ge=1)                 # steps in a row that may be skipped for a loss that is not finite
    eval_every: int = Field(16, ge=1)                    # epochs
    save_every: int = Field(1, ge=1)                     # epochs
    save_steps: int = Field(0, ge=0)                     # also after so many steps of an epoch; 0: at epochs only
    keep: int = Field(2, ge=1)                           # how many of the last training states stay
    log_to: tuple[Literal["tensorboard", "wandb"], ...] = ()  # besides metrics.jsonl
    seed: int = Field(1999, ge=0)
    device: str = "auto"


class ExperimentConfig(Config):
    """Everything a run needs; saved with its checkpoints."""

    model: ModelConfig = ModelConfig()
    data: DataConfig = DataConfig()
    augment: AugmentConfig = AugmentConfig()
    train: TrainConfig = TrainConfig()


def load_config(path: str | Path, overrides: Sequence[str] = ()) -> ExperimentConfig:
    """Read an experiment config; ``base: other.yaml`` is read first, from the folder of the file that names it.

    ``model.setting: paper`` sets every quirk, and ``model.size`` every width, that files and overrides leave open.
    """
    tree = _read_with_base(Path(path), ())
    for override in overrides:
        _override(tree, override)
    model = tree.get("model")
    if isinstance(model, dict):
        size = model.get("size")
        presets = SIZES.get(size, ()) if isinstance(size, str) else ()
        for setting in (*(PAPER_SETTINGS if model.get("setting") == "paper" else ()), *presets):
            _override(model, setting, keep=True)
    keys = [override.partition("=")[0].split(".") for override in overrides]
    return build(ExperimentConfig, tree, where=path, overridden=keys)


def _read_with_base(path: Path, above: tuple[Path, ...]) -> dict[str, Any]:
    """A config file on top of its base, if it names one; ``above`` are the files that led here."""
    if path.resolve() in above:
        chain = " -> ".join(file.name for file in (*above, path))
        raise ConfigError(explain("a config is its own base", where=path, got=chain))
    tree = read_yaml(path)
    base = tree.pop("base", None)
    if base is None:
        return tree
    if not isinstance(base, str):
        raise ConfigError(explain("base names one other config file", where=path, got=_shown(base)))
    return _merge(_read_with_base(path.parent / base, (*above, path.resolve())), tree)


def _merge(base: dict[str, Any], top: dict[str, Any]) -> dict[str, Any]:
    """Sections key by key, anything else replaced; an empty section changes nothing."""
    sections = {key: _merge(base[key], value or {}) for key, value in top.items()
                if isinstance(value, dict | None) and isinstance(base.get(key), dict)}
    return {**base, **top, **sections}


def read_yaml(path: str | Path) -> dict[str, Any]:
    """Read a yaml mapping safely: tags that would build Python objects are refused."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except OSError as error:
        scans = f"A config is a yaml file; the folder of the scans is its data.root: data.root={path}"
        raise FileError(explain("cannot read the config", where=path, got=error.strerror,
                                do=scans if Path(path).is_dir() else None)) from error
    except UnicodeDecodeError as error:
        raise ConfigError(explain("a config must be utf-8 text", where=path, got=str(error))) from error
    try:
        tree = yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError, ValueError) as error:  # ValueError: a date such as 2026-99-99
        raise ConfigError(explain("not valid yaml", where=path, got=str(error).replace("\n", " "))) from error
    if tree is None:
        raise ConfigError(explain("the config is empty", where=path, do="{} in it would mean: every default."))
    if not isinstance(tree, dict):
        raise ConfigError(explain("a config is a mapping of keys", where=path, got=type(tree).__name__))
    return tree


def to_yaml(config: Config) -> str:
    """Text of a config that ``load_config`` reads back the same."""
    text: str = yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False)
    return text


def differences(ours: Config, theirs: Config) -> list[tuple[str, Any, Any]]:
    """(dotted key, our value, theirs) of each key whose values differ."""
    mine, other = _flat(ours.model_dump()), _flat(theirs.model_dump())
    return [(key, mine[key], other[key]) for key in mine if mine[key] != other[key]]


def _flat(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return flat


def build(kind: type[Config], tree: dict[str, Any], *, where: object, overridden: Sequence[Sequence[str]] = ()) -> Any:
    """Validate a tree of plain values; errors name the key, the value and the nearest known key.

    They say they are ``where`` the tree is from, or on the command line when their key is one of those ``overridden``.
    """
    try:
        return kind.model_validate(tree)
    except ValidationError as error:
        raise ConfigError("\n".join(_describe(kind, problem, _place(problem, where, overridden))
                                    for problem in error.errors())) from None


def _place(problem: Any, where: object, overridden: Sequence[Sequence[str]]) -> object:
    """Where a problem comes from: an override is to blame for its own key, and for what lies above and below it."""
    keys = [str(part) for part in problem["loc"]]
    blamed = any(all(a == b for a, b in zip(keys, override)) for override in overridden)
    return "command line" if blamed else where


def _describe(kind: type[Config], problem: Any, where: object) -> str:
    keys = [str(part) for part in problem["loc"]]
    if problem["type"] != "extra_forbidden":
        wrong = problem["msg"].removeprefix("Value error, ").replace("a valid tuple", "a list, as in [1, 2]")
        return explain(f"{'.'.join(keys)}: {wrong}", where=where, got=_shown(problem["input"]))
    known = _keys_at(kind, keys[:-1])
    nearest = difflib.get_close_matches(keys[-1], known, n=1, cutoff=0.5)
    hint = f"Did you mean {'.'.join([*keys[:-1], nearest[0]])!r}?" if nearest else f"Known keys here: {', '.join(known)}"
    return explain(f"unknown key {'.'.join(keys)!r}", where=where, do=hint)


def _shown(value: Any) -> str:
    """A value as an error shows it; most containers by their type, since yaml aliases can make them endless."""
    if isinstance(value, list | tuple) and all(isinstance(entry, int | float) for entry in value):
        return repr(list(value))[:200]
    return f"a {type(value).__name__}" if isinstance(value, dict | list | tuple) else repr(value)[:200]


def _keys_at(kind: type[BaseModel], path: Sequence[str]) -> list[str]:
    for key in path:
        annotation = kind.model_fields[key].annotation
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            kind = annotation
    return list(kind.model_fields)


def _override(tree: dict[str, Any], override: str, *, keep: bool = False) -> None:
    """Set ``a.b=value`` in a tree of plain values; with ``keep`` an existing value stays."""
    key, separator, text = override.partition("=")
    if not separator or not key:
        raise ConfigError(explain("an override is key=value", where="command line", got=override,
                                  expected="e.g. train.lr=1e-4"))
    *parents, leaf = key.split(".")
    for parent in parents:
        if tree.get(parent) is None:  # `train:` with nothing below it is an empty section
            tree[parent] = {}
        child = tree[parent]
        if not isinstance(child, dict):
            raise ConfigError(explain(f"{parent!r} holds a value, not keys", where="command line", got=override))
        tree = child
    if not (keep and leaf in tree):
        tree[leaf] = _parse(text, override)


def _parse(text: str, override: str) -> Any:
    """Read the value of an override as yaml; pydantic turns text such as 1e-4 into the number its field asks for."""
    try:
        return yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise ConfigError(explain("the value of an override is not valid yaml", where="command line", got=override,
                                  do="Put quotes around text with special characters.")) from error

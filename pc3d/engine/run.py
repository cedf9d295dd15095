"""The folder of a run: what is in it, whether a run may start or go on there, and the data it is for."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pc3d.config import ExperimentConfig, differences, load_config, to_yaml
from pc3d.data import ScanDataset
from pc3d.errors import ConfigError, FileError, explain
from pc3d.io.files import atomic_file

CONFIG = "config.yaml"

#: Keys that may differ when a run goes on: where and how it runs, not what it computes.
FREE = ("data.root", "data.workers", "train.output", "train.device", "train.keep", "train.save_every", "train.save_steps",
        "train.log_to", "train.max_nonfinite")


def open_data(config: ExperimentConfig) -> tuple[ScanDataset, ScanDataset, ExperimentConfig]:
    """Training and validation scans, and the config with their classes.

    The first scan of each is read, so that data without labels, or for other classes than the config names, are refused
    before anything else is done.
    """
    scans, validation = (ScanDataset(config.data.root, split) for split in (config.data.train_split, config.data.val_split))
    if config.model.classes:
        check_classes(config.model.classes, scans, whose="the config")
    for dataset in (scans, validation):
        dataset[0]
    model = config.model.model_copy(update={"classes": scans.classes})
    return scans, validation, config.model_copy(update={"model": model})


def check_classes(names: Sequence[str], dataset: ScanDataset, *, whose: str) -> None:
    """Raise ConfigError, naming the first difference, unless a dataset has these classes in this order."""
    if tuple(names) == dataset.classes:
        return
    place = next((i for i, (a, b) in enumerate(zip(names, dataset.classes)) if a != b), min(len(names), len(dataset.classes)))
    ours, theirs = ([*classes[place:place + 1], "the end of the list"][0] for classes in (tuple(names), dataset.classes))
    raise ConfigError(explain(f"{whose} and the dataset name different classes, first at number {place}", where=dataset.root,
                              got=f"{theirs!r} of {len(dataset.classes)}: {', '.join(dataset.classes)}",
                              expected=f"{ours!r} of {len(names)}: {', '.join(names)}"))


def open_run(config: ExperimentConfig, *, resume: bool) -> Path:
    """Make the folder of a run and write its config; raises FileError when it may not be used.

    A folder that holds a run is refused without ``resume``, and with it unless the run has the same config. There is
    nothing wrong with resuming what has not begun: a job that is started again and again needs one command.
    """
    run = Path(config.train.output)
    begun = (run / CONFIG).exists()
    if begun and not resume:
        raise FileError(explain("this folder holds a run already", where=run,
                                do="Go on with it by --resume, choose another train.output, or remove the folder."))
    if begun:
        check_same_run(config, load_config(run / CONFIG), where=run)
        remove_leftovers(run)
        return run
    try:
        run.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FileError(explain("cannot make the run folder", where=run, got=error.strerror)) from error
    with atomic_file(run / CONFIG) as file:
        file.write(to_yaml(config).encode())
    return run


def check_same_run(config: ExperimentConfig, saved: ExperimentConfig, *, where: object) -> None:
    """Raise ConfigError naming each key, but for the free ones, whose value differs from that of the run in this folder."""
    different = [f"\n  {key}: {ours!r}, in the run {theirs!r}" for key, ours, theirs in differences(config, saved)
                 if key not in FREE]
    if different:
        raise ConfigError(explain("this folder holds a run of another config", where=where, got="".join(different),
                                  do="\nResume with the config of the run, or begin another from its weights, for more epochs "
                                     f"too: train.init={Path(str(where)) / 'last.safetensors'} and another train.output."))


def remove_leftovers(run: Path) -> None:
    """Remove temporary files of a process that was killed while it wrote."""
    for path in run.rglob(".*.tmp"):
        path.unlink(missing_ok=True)

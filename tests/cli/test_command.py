"""The command line as a whole: help, exit codes, errors."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from pc3d import cli
from pc3d.cli import VERBS, main
from pc3d.errors import BackendError

EXAMPLES = [line for _, examples in VERBS.values() for line in examples.strip().splitlines()]


def parts_of(example: str) -> list[list[str]]:
    """The pc3d command lines of an example, without what they are piped or chained to."""
    return [shlex.split(part) for part in re.split(r"\||&&|>", example) if part.strip().startswith("pc3d ")]


@pytest.mark.parametrize("verb", VERBS)
def test_help_of_every_verb_shows_its_examples(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([verb, "--help"]) == 0
    shown = capsys.readouterr().out
    for line in VERBS[verb][1].strip().splitlines():
        assert f"    {line}" in shown


@pytest.mark.parametrize("example", EXAMPLES)
def test_every_example_parses(example: str) -> None:
    command = typer.main.get_command(cli.make_app())
    for _, verb, *arguments in parts_of(example):
        command.commands[verb].make_context(verb, arguments)  # type: ignore[attr-defined]


def test_examples_name_files_that_are_in_the_repository() -> None:
    root = Path(__file__).resolve().parent.parent.parent
    named = {word for line in EXAMPLES for word in line.split() if word.startswith("configs/")}
    assert named
    assert [name for name in named if not (root / name).exists()] == []


def test_the_example_of_convert_works_as_printed_but_for_the_missing_checkpoint(
        monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(Path(__file__).resolve().parent.parent.parent)
    example = next(line for line in EXAMPLES if line.startswith("pc3d convert") and "--config" in line)
    assert main(shlex.split(example)[1:]) == 3
    assert "relation3d_scannetv2.pth" in capsys.readouterr().err


def test_help_loads_nothing_heavy_and_comes_at_once() -> None:
    code = ("import sys; from pc3d.cli import main; main(['--help'])\n"
            "print([m for m in ('torch', 'numpy', 'scipy', 'open3d', 'rich') if m in sys.modules], file=sys.stderr)")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=20)
    assert done.stderr.strip() == "[]"
    assert all(f"  {verb} " in done.stdout for verb in VERBS)


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert re.fullmatch(r"pc3d \d+\.\d+\.\d+\n", capsys.readouterr().out)


@pytest.mark.parametrize("arguments", [
    ["sement", "a.ply"], ["segment", "a.ply"], ["segment", "a.ply", "-o", "x", "--modle", "m"],
    ["synth", "out", "--rooms", "0"]])
def test_wrong_usage_ends_with_2_and_says_what_is_wrong(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    assert "rror" in capsys.readouterr().err


def test_a_missing_file_ends_with_3(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["superpoints", str(tmp_path / "none.ply"), "-o", str(tmp_path / "out.ply")]) == 3
    message = capsys.readouterr().err
    assert "none.ply" in message
    assert "Traceback" not in message


def test_a_bad_config_ends_with_4(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tmp_path / "a.yaml"
    config.write_text("train: {epoch: 1}\n")
    assert main(["train", str(config), "--show-config"]) == 4
    assert capsys.readouterr().err == f"pc3d: {config}: unknown key 'train.epoch'. Did you mean 'train.epochs'?\n"


@pytest.mark.parametrize(("error", "code", "words"), [
    (BackendError("no open3d"), 5, "pc3d: no open3d\n"),
    (KeyboardInterrupt(), 130, "pc3d: stopped\n"),
    (PermissionError(13, "Permission denied", "/private/x"), 3, "/private/x"),
    (ZeroDivisionError("oh"), 1, "pc3d: ZeroDivisionError: oh\nThis should not happen. PC3D_TRACEBACK=1 shows where"),
])
def test_errors_become_one_block_and_their_exit_code(
        error: BaseException, code: int, words: str,
        monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def fail() -> None:
        raise error

    monkeypatch.setitem(VERBS, "demo", (fail, "pc3d demo"))
    assert main(["demo"]) == code
    shown = capsys.readouterr()
    assert words in shown.err
    assert "Traceback" not in shown.err
    assert shown.out == ""


def test_the_traceback_is_there_when_asked_for(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def fail() -> None:
        raise BackendError("no open3d")

    monkeypatch.setitem(VERBS, "demo", (fail, "pc3d demo"))
    monkeypatch.setenv("PC3D_TRACEBACK", "1")
    assert main(["demo"]) == 5
    assert "Traceback" in capsys.readouterr().err


def test_a_warning_is_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def warn() -> None:
        import warnings

        warnings.warn("slow", RuntimeWarning, stacklevel=1)

    monkeypatch.setitem(VERBS, "demo", (warn, "pc3d demo"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("warnings.filters", [])
        assert main(["demo"]) == 0
    assert capsys.readouterr().err == "pc3d: warning: slow\n"


def test_the_module_runs_as_the_command() -> None:
    done = subprocess.run([sys.executable, "-m", "pc3d", "nothing"], capture_output=True, text=True)
    assert done.returncode == 2


def test_a_reader_that_goes_away_leaves_no_traceback() -> None:
    command = f"{shlex.quote(sys.executable)} -m pc3d train configs/relation3d_synth.yaml --show-config | true"
    done = subprocess.run(command, shell=True, capture_output=True, text=True, cwd=Path(cli.__file__).parent.parent.parent)
    assert "Traceback" not in done.stderr

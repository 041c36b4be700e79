import argparse
import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from dan_fast import __version__, commands
from dan_fast.cli import COMMANDS, main
from dan_fast.command_line.arguments import HelpWithDefaults

FILES = {path.stem: path for path in Path(commands.__path__[0]).glob("[!_]*.py")}


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_defaults(command, capsys):
    with pytest.raises(SystemExit) as end:
        main([command, "--help"])
    assert end.value.code == 0
    text = capsys.readouterr().out
    assert command in text
    assert "(default: None)" not in text and not re.search(r"\(default:[^)]*\)\s+\(default:", text)
    parser = argparse.ArgumentParser(formatter_class=HelpWithDefaults)
    importlib.import_module(f"dan_fast.commands.{command}").add_arguments(parser)
    for option in parser._actions:
        if option.option_strings and option.default not in (None, False, argparse.SUPPRESS):
            shown = parser._get_formatter()._get_help_string(option)
            assert "default" in shown, f"{option.option_strings[-1]} has the default {option.default!r}: {shown}"


def test_commands_hold_one_sub_command_per_file_and_do_not_import_each_other():
    assert set(FILES) == set(COMMANDS)
    sibling = re.compile(r"^\s*(from \.[\w ]|from \.\.commands|from dan_fast\.commands)", re.M)
    assert not [name for name, path in FILES.items() if sibling.search(path.read_text())]


@pytest.mark.parametrize("arguments", [[], ["sharpen"], ["upscale"], ["upscale", "x.png", "-o", "y", "--tile", "0"]])
def test_bad_usage_exits_2(arguments):
    with pytest.raises(SystemExit) as end:
        main(arguments)
    assert end.value.code == 2


@pytest.mark.parametrize(("name", "meant"), [("upscal", "upscale"), ("evalute", "evaluate"), ("Train", "train")])
def test_a_mistyped_command_is_guessed(name, meant, capsys):
    with pytest.raises(SystemExit) as end:
        main([name, "photo.png"])
    assert end.value.code == 2
    assert capsys.readouterr().err.splitlines()[-1] == f"dan-fast: error: no command {name!r}; did you mean {meant}?"


def test_a_command_like_no_other_gets_the_list(capsys):
    with pytest.raises(SystemExit):
        main(["xyzzy\n"])
    line = capsys.readouterr().err.splitlines()[-1]
    assert "no command 'xyzzy\\n'; expected one of " in line and all(command in line for command in COMMANDS)


def test_a_mistyped_preset_is_guessed(capsys):
    assert main(["train", "--preset", "v2-irregular-4x"]) == 2
    assert capsys.readouterr().err.endswith("; did you mean v2-irregular-x4?\n")


@pytest.mark.parametrize("error, text", [
    (MemoryError(), "not enough memory"), (MemoryError("there is not enough memory: do this"), "do this"),
    (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate"), "not enough memory on the GPU"),
])
def test_too_little_memory_is_one_line(error, text, monkeypatch, capsys):
    def run(args):
        raise error
    monkeypatch.setattr("dan_fast.commands.doctor.run", run)
    assert main(["doctor"]) == 2
    found = capsys.readouterr().err
    assert found.startswith("dan-fast doctor: error: ") and found.endswith(f"{text}\n") and found.count("\n") == 1


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_is_tested(command):
    tests = Path(__file__).parents[1]
    assert any(re.search(rf"main\(\s*\[\s*\"{command}\"|\bdan_fast\(\"{command}\"|dan_fast\.cli\", \"{command}\"",
                         path.read_text()) for path in tests.rglob("test_*.py") if path != Path(__file__))


def test_version(capsys):
    with pytest.raises(SystemExit) as end:
        main(["--version"])
    assert end.value.code == 0 and capsys.readouterr().out == f"dan-fast {__version__}\n"


def test_help_lists_the_commands(capsys):
    with pytest.raises(SystemExit) as end:
        main(["--help"])
    assert end.value.code == 0
    text = capsys.readouterr().out
    assert all(command in text for command in ("upscale", "train", "evaluate", "degrade", "kernel", "bench", "doctor"))


def test_the_documented_module_trains():
    result = subprocess.run([sys.executable, "-m", "dan_fast.train", "--help"], capture_output=True, text=True)
    assert result.returncode == 0 and "--preset" in result.stdout

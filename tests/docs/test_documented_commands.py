"""Every command and every block of Python in the documentation runs, in a folder with the files that it names.

What takes too long as it stands is made smaller by ``SMALLER``. What is not a whole command is listed in ``FRAGMENTS``.
"""

from __future__ import annotations

import argparse
import importlib
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from support.documentation import Documented, commands, python_blocks
from support.documented_files import FILES, TRAINING, make

from dan_fast.cli import main

# Pattern, what takes its place, and why.
SMALLER = (
    (r"--preset v2-x4", "--preset v2-0.3M-x4", "the published network takes seconds for a step on a CPU"),
    (r"--minutes \d+", "--minutes 0.2", "minutes"),
    (r"(?<=train )(?!--help)", " ".join((*TRAINING, "")), "hours; settings that come later in the line win"),
    (r"--steps [1-9]\d\d+", "--steps 1", "hours"),
    (r"(?<=^dan-fast bench)", " --repeats 1 --sizes 16x16", "ten calls of large images; later settings win"),
    (r"(?<=bench )(.*)\b\d\d+x\d\d+ \d+x\d+", r"\1 16x16 24x16", "large images take seconds"),
    (r"510x340", "20x16", "large images take seconds"),
    (r"(?<=^dan-fast ablate )(.*)--seeds \d+ --batch \d+ --patch \d+", r"\1--seeds 3 --batch 1 --patch 16",
     "large patches take seconds"),
    (r"^dan-fast ablate inputs", "dan-fast ablate inputs --steps 1 --data Set5 --val Set14",
     "a dozen trainings of a quarter of a minute each"),
)
# Words that stand for a whole command in a sentence, and why they are not run.
FRAGMENTS = {
    "dan-fast upscale": "the command's name",
    "dan-fast upscale --timing": "an option of the command; its photos are not named",
    "dan-fast ablate": "the command's name; its questions are elsewhere on the page",
}
# Commands that need what this machine may not have.
NEEDS = {"dan-fast doctor --gpu": ("a GPU", torch.cuda.is_available)}

DOCUMENTED = list({found.text: found for found in commands()}.values())
WHOLE = [found for found in DOCUMENTED if not (found.inline and found.text in FRAGMENTS)]
PYTHON = python_blocks()
_COMMAND = re.compile(r"(dan-fast|python -m dan_fast\.)[^<>|&$*]*$")  # without what only a shell understands
_OUTPUTS = ("-o", "--out", "--output", "--csv", "--parts", ">", "2>")


def smaller(line: str, used: set[str] | None = None) -> str:
    """The line that runs in place of ``line``; the patterns that change it are added to ``used``."""
    for pattern, replacement, _ in SMALLER:
        line, times = re.subn(pattern, replacement, line)
        if times and used is not None:
            used.add(pattern)
    return line


def named_files(line: str) -> set[str]:
    """The names in ``FILES`` that the command reads, or in which it reads something."""
    words = line.split()
    goes_on = re.search(r"--resume(?! auto)", line)
    read = [word.rstrip("/") for before, word in zip(["", *words], words, strict=False)
            if before not in _OUTPUTS or goes_on]
    return {name for name in FILES for word in read if word == name or word.startswith(f"{name}/")}


@pytest.fixture(scope="session")
def workshop(tmp_path_factory) -> Path:
    """A folder in which the named files are made once."""
    return tmp_path_factory.mktemp("named")


@pytest.fixture
def folder(workshop, tmp_path, monkeypatch):
    """A function that makes files in a folder of this test's own, the current one."""
    monkeypatch.chdir(tmp_path)

    def provide(names: set[str]) -> None:
        for name in sorted(names):
            make(name, workshop)
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            if (workshop / name).is_dir():
                shutil.copytree(workshop / name, name, dirs_exist_ok=True)
            else:
                shutil.copy(workshop / name, name)
    return provide


@pytest.mark.parametrize("found", WHOLE, ids=lambda found: f"{found.page}: {found.text}")
def test_command(found: Documented, folder, one_thread, capfd):
    if found.text in NEEDS and not NEEDS[found.text][1]():
        pytest.skip(f"no machine with {NEEDS[found.text][0]}")
    line = smaller(found.text)
    folder(named_files(line))
    before = {path for path in Path().rglob("*") if path.is_file()}
    for part in line.split("; "):
        code = in_process(part) if _COMMAND.match(part) else in_shell(part)
        assert code == 0, f"{found.page}: {part}\n{capfd.readouterr().err[-2000:]}"
    if set(shlex.split(line)) & set(_OUTPUTS):
        written = {path for path in Path().rglob("*") if path.is_file()} - before
        assert written or capfd.readouterr().out, f"{found.page}: {line} writes nothing"


def in_process(line: str) -> int:
    try:
        return main(shlex.split(line.replace("python -m dan_fast.", "dan-fast "))[1:])
    except SystemExit as end:
        return int(end.code or 0)


def in_shell(line: str) -> int:
    if not shutil.which("bash"):
        pytest.skip("bash is not installed")
    python = shlex.quote(sys.executable)
    functions = f"dan-fast() {{ {python} -m dan_fast.cli \"$@\"; }}; python() {{ {python} \"$@\"; }}; "
    return subprocess.run(["bash", "-ec", functions + line]).returncode


@pytest.mark.parametrize("fragment", FRAGMENTS)
def test_options_in_fragments_exist(fragment: str):
    _, command, *options = shlex.split(fragment)
    parser = argparse.ArgumentParser()
    importlib.import_module(f"dan_fast.commands.{command}").add_arguments(parser)
    assert set(options) <= set(parser._option_string_actions)


@pytest.mark.parametrize("found", PYTHON, ids=lambda found: found.page)
def test_python(found: Documented, folder, capsys):
    folder({name for name in FILES if f'"{name}"' in found.text})
    exec(compile(found.text, found.page, "exec"), {"__name__": "documented"})


def test_commands_and_python_are_found():
    texts = {found.text for found in WHOLE}
    assert {"dan-fast kernel photo.jpg", "dan-fast doctor", "dan-fast bench"} <= texts
    assert any(text.startswith("python -m dan_fast.train ") and "--schedule" in text for text in texts)
    assert {"README.md", "docs/training.md", "docs/tasks/measuring.md"} <= {found.page for found in WHOLE}
    assert {"README.md", "docs/inference.md"} <= {found.page for found in PYTHON}


def test_every_exception_is_of_a_line_that_exists():
    texts = [found.text for found in DOCUMENTED]
    assert not set(FRAGMENTS) - {found.text for found in DOCUMENTED if found.inline}
    assert not set(NEEDS) - set(texts)
    used: set[str] = set()
    named = {"DIR"}  # others are made of it
    for found in WHOLE:
        named |= named_files(smaller(found.text, used))
    assert used == {pattern for pattern, _, _ in SMALLER}
    assert named | {name for name in FILES for block in PYTHON if f'"{name}"' in block.text} == set(FILES)

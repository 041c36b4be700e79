"""The scripts that ``dan-fast completion`` prints know every command and option, and a shell can run them."""

from __future__ import annotations

import shutil
import subprocess

import pytest
from support import completions

from dan_fast.cli import COMMANDS, main
from dan_fast.commands.completion import SCRIPTS, SHELLS


@pytest.mark.parametrize("shell", SHELLS)
def test_the_command_prints_the_script(shell, capsys):
    assert main(["completion", shell]) == 0
    assert capsys.readouterr().out == (SCRIPTS / f"dan-fast.{shell}").read_text(encoding="utf-8")


def test_the_scripts_are_up_to_date():
    for path, text in completions.scripts().items():
        assert path.read_text(encoding="utf-8") == text, f"{path.name} is old: make completions"


@pytest.mark.parametrize(("words", "expected"), [
    (["up"], {"upscale"}),
    ([""], set(COMMANDS)),
    (["upscale", "--kernel"], {"--kernel", "--kernel-from"}),
    (["upscale", "--dtype", "b"], {"bf16"}),
    (["completion", ""], set(SHELLS)),
])
def test_bash_completes(words, expected):
    if not shutil.which("bash"):
        pytest.skip("bash is not installed")
    script = f'''source "$1"; shift; COMP_WORDS=(dan-fast "$@"); COMP_CWORD=$#
                 {FUNCTION} dan-fast "${{!#}}" 2>&1; printf '%s\\n' "${{COMPREPLY[@]}}"'''
    said = subprocess.run(["bash", "-c", script, "bash", str(SCRIPTS / "dan-fast.bash"), *words],
                          capture_output=True, text=True, check=True)
    found = {line.strip() for line in said.stdout.splitlines()}
    assert expected <= found and (words[-1] == "" or found == expected), said.stderr


FUNCTION = "_shtab_dan_fast"


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_a_shell_reads_its_script(shell):
    if not shutil.which(shell):
        pytest.skip(f"{shell} is not installed")
    subprocess.run([shell, "-n", str(SCRIPTS / f"dan-fast.{shell}")], check=True)

"""Threads wait passively: set before torch is imported, unless the user has set something."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest

from dan_fast.runtime.threads import SETTINGS, VARIABLES, how_threads_wait

WITHOUT = {name: value for name, value in os.environ.items() if name not in VARIABLES}


def run(code: str, **variables: str) -> str:
    result = subprocess.run([sys.executable, "-c", code], env={**WITHOUT, **variables}, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


def test_import_alone_does_not_import_torch():
    assert run("import sys, dan_fast; print('torch' in sys.modules)") == "False"


@pytest.mark.parametrize("module", ["dan_fast.cli", "dan_fast.train"])
def test_commands_set_it_before_torch_is_imported(module):
    """OpenMP's own report of its settings shows it."""
    code = f"import {module}; from dan_fast.cli import main; main(['doctor'])"
    assert re.search("CPU threads wait +passively", run(code))
    report = subprocess.run([sys.executable, "-c", code], env={**WITHOUT, "OMP_DISPLAY_ENV": "VERBOSE"},
                            capture_output=True, text=True).stderr
    if "GOMP_SPINCOUNT" in report:  # only GNU's OpenMP reports it
        assert "GOMP_SPINCOUNT = '1000'" in report and "OMP_WAIT_POLICY = 'PASSIVE'" in report


@pytest.mark.parametrize("name", VARIABLES)
def test_the_users_own_setting_stays(name):
    code = ("import os; from dan_fast.runtime.threads import wait_passively, VARIABLES\n"
            "print(wait_passively(), [name for name in VARIABLES if name in os.environ])")
    assert run(code, **{name: "12"}) == f"False ['{name}']"


def test_sets_nothing_once_torch_is_imported():
    code = "import torch, os; from dan_fast.runtime.threads import wait_passively; print(wait_passively(), *os.environ)"
    printed, *names = run(code).split()
    assert printed == "False" and not set(names) & set(SETTINGS)


def test_in_words(monkeypatch):
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    assert how_threads_wait().startswith("actively: other programs slow this one down")
    monkeypatch.setenv("GOMP_SPINCOUNT", "7")
    assert how_threads_wait().startswith("as GOMP_SPINCOUNT=7 says: other programs")
    monkeypatch.setenv("OMP_WAIT_POLICY", "passive")
    assert how_threads_wait() == "passively (OMP_WAIT_POLICY=passive, GOMP_SPINCOUNT=7)"

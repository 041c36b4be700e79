"""Tests dan_fast on other versions of Python and torch than the checkout's.

    nox              # the oldest and the newest pair of Python and torch; each Python must be installed
    nox -t oldest
    nox -t wheel     # the wheels in dist/ on several versions of Python (make wheel test-wheel)

Each pair gets its own environment, in which dan_fast is installed, prints its active parts, upscales a photo, takes a
training step, and passes the tests of networks and operators. This takes ten minutes and several GB per pair, as torch
for Linux comes with CUDA by default.
"""

import os
import shutil
import subprocess
from pathlib import Path

import nox

nox.options.default_venv_backend = "venv"
nox.options.sessions = ["oldest", "newest"]
nox.options.download_python = "never"
# A Python that is not here is skipped, with a word about it, or fails.
nox.options.error_on_missing_interpreters = os.environ.get("DAN_FAST_REQUIRE_PYTHONS", "0") == "1"
if pyenv := shutil.which("pyenv"):  # pythonX.Y runs only for those that this names
    installed = subprocess.run([pyenv, "versions", "--bare"], capture_output=True, text=True, check=True).stdout.split()
    os.environ.setdefault("PYENV_VERSION", ":".join(reversed(installed)))
DEPENDENCIES = nox.project.load_toml("pyproject.toml")["project"]["dependencies"]
TESTS = ["tests/test_package.py", "tests/test_checkpoint.py", "tests/runtime/test_forked.py", "tests/model",
         "tests/fast_model", "tests/ops"]


def check(session: nox.Session, torch: str) -> None:
    session.install(f"torch=={torch}", "setuptools>=70,<82", "wheel", "ninja")
    # Built against this torch, and without CUDA: code for GPUs is tested where there is one.
    session.install("--no-build-isolation", ".[mat]", "pytest>=8", "scikit-image", "scipy",
                    env={"DAN_FAST_CUDA": "0"})
    folder = session.create_tmp()
    session.run("dan-fast", "doctor")
    session.run("dan-fast", "upscale", "dan_fast/samples/dog.png", "-o", f"{folder}/out")
    session.run("python", "-m", "dan_fast.train", "--preset", "v2-0.3M-x4", "--steps", "1", "--batch", "2",
                "--out", f"{folder}/run")
    # Machine code of Triton kernels depends on Triton's version, which is not installed here.
    session.run("python", "-m", "pytest", "-q", "--ignore-glob=*_compiles.py", *TESTS,
                env={"DAN_FAST_REQUIRE_EXTENSION": "1"})


@nox.session(python="3.10", tags=["oldest"])
def oldest(session: nox.Session) -> None:
    check(session, "2.11.0")


@nox.session(python="3.13", tags=["newest"])
def newest(session: nox.Session) -> None:
    check(session, "2.13.0")


@nox.session(python=["3.10", "3.12", "3.13"], venv_backend="uv", tags=["wheel"])
def wheel(session: nox.Session) -> None:
    try_wheel(session, "*-abi3-*.whl", "C++ ops           active")


@nox.session(python="3.13", venv_backend="uv", tags=["wheel"])
def pure_wheel(session: nox.Session) -> None:
    try_wheel(session, "*-py3-none-any.whl", "C++ ops           not active: ")


def try_wheel(session: nox.Session, pattern: str, doctor_says: str) -> None:
    """Install the wheel beside its dependencies, and run it where no program but those of the environment is found."""
    # uv links the same GBs of torch into every environment, which takes ten seconds.
    session.install("--constraint", "constraints.txt", *DEPENDENCIES)
    file, = Path("dist").resolve().glob(pattern)
    session.install("--no-deps", str(file))
    photo, folder = Path("dan_fast/samples/dog.png").resolve(), session.create_tmp()
    alone = {"PATH": session.bin, "PYTHONPATH": ""}
    with session.chdir(folder):
        said = session.run("dan-fast", "doctor", env=alone, silent=True)
        if doctor_says not in said:
            session.error(f"expected {doctor_says!r} in\n{said}")
        session.run("dan-fast", "upscale", str(photo), "-o", "out", env=alone)
        if not Path("out/dog_x4.png").is_file():
            session.error("out/dog_x4.png is missing")
    shutil.rmtree(session.virtualenv.location)  # 7 GB where they cannot be links

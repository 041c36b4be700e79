"""Tests dan_fast on the oldest and the newest pair of Python and torch that it supports.

    nox              # both; each Python must be installed
    nox -t oldest

Each pair gets its own environment, in which dan_fast is installed, prints its active parts, upscales a photo, takes a
training step, and passes the tests of networks and operators. This takes ten minutes and several GB per pair, as torch
for Linux comes with CUDA by default.
"""

import nox

nox.options.default_venv_backend = "venv"
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

"""The oldest and the newest pair of Python and torch that dan_fast promises to work with.

    nox              # both; each Python must be installed
    nox -t oldest

An environment of its own for each: installs, says what is active, upscales a photo, takes a training step, runs the
tests of the operators. Ten minutes and several GB per pair, as torch for Linux comes with CUDA by default.
"""

import nox

nox.options.default_venv_backend = "venv"
OPERATORS = [
    "tests/test_package.py", "tests/test_checkpoint.py", "tests/runtime/test_forked.py", "tests/model",
    "tests/fast_model/test_plan.py", *(f"tests/ops/test_{name}.py" for name in (
        "blur_downsample", "conv3x3", "conv3x3_bias", "conv3x3_learning", "dpcb_stack", "dpcg", "crb_stack",
        "condition_path", "modulate", "channel_attention", "estimator_tail"))]


def check(session: nox.Session, torch: str) -> None:
    session.install(f"torch=={torch}", "setuptools>=70,<82", "wheel", "ninja")
    # Against this torch, and without CUDA: what a GPU needs is tested on one.
    session.install("--no-build-isolation", ".[mat]", "pytest>=8", "scikit-image", "scipy",
                    env={"DAN_FAST_CUDA": "0"})
    folder = session.create_tmp()
    session.run("dan-fast", "doctor")
    session.run("dan-fast", "upscale", "dan_fast/samples/dog.png", "-o", f"{folder}/out")
    session.run("python", "-m", "dan_fast.train", "--preset", "v2-0.3M-x4", "--steps", "1", "--batch", "2",
                "--out", f"{folder}/run")
    session.run("python", "-m", "pytest", "-q", *OPERATORS, env={"DAN_FAST_REQUIRE_EXTENSION": "1"})


@nox.session(python="3.10", tags=["oldest"])
def oldest(session: nox.Session) -> None:
    check(session, "2.11.0")


@nox.session(python="3.13", tags=["newest"])
def newest(session: nox.Session) -> None:
    check(session, "2.13.0")

"""Settings of all tests, and fixtures: data outside the repository, a tiny network, fresh random numbers."""

from __future__ import annotations

import os
from pathlib import Path

from dan_fast.runtime.threads import wait_passively

# These settings are read when torch is imported.
wait_passively()  # tests run beside other programs too
# The same number of threads on every machine: enough for threads to matter, few enough for tiny networks.
os.environ.setdefault("OMP_NUM_THREADS", "2")
# torch.compile generates code without vector instructions, the same on every machine, and takes no time to try out
# which there are.
os.environ.setdefault("TORCHINDUCTOR_VEC_ISA_OK", "0")

import dan_fast_kernels  # noqa: E402
import pytest  # noqa: E402
import torch  # noqa: E402
from support import networks  # noqa: E402
from support.slow import is_slow  # noqa: E402

import dan_fast  # noqa: E402

SHARED = Path(__file__).parents[2] / "shared"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark slow tests, which ``make quick`` leaves out."""
    for item in items:
        if is_slow(item.nodeid):
            item.add_marker("slow")


@pytest.fixture(scope="session")
def shared() -> Path:
    """Large parity files and test images, which are not in the repository.

    Skip without them, or fail where they are required (DAN_FAST_REQUIRE_SHARED=1).
    """
    if not (SHARED / "parity").is_dir():
        message = "no ../shared folder with parity files and test images beside the checkout"
        if os.environ.get("DAN_FAST_REQUIRE_SHARED") == "1":
            pytest.fail(message)
        pytest.skip(message)
    return SHARED


@pytest.fixture(scope="session", autouse=True)
def fresh_compiler_cache(tmp_path_factory) -> None:
    """Give torch.compile an empty cache: that of another version of the operators must not be used.

    The processes of pytest-xdist share it.
    """
    folder = tmp_path_factory.getbasetemp()
    folder = folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder
    os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(folder / "inductor")


@pytest.fixture(autouse=True)
def seeded() -> None:
    """Seed torch before each test, so that it does not depend on the tests before it."""
    torch.manual_seed(0)


@pytest.fixture
def one_thread():
    """Use one thread: tiny networks gain nothing from more, and lose much where other programs share the cores."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def native():
    """Skip without the compiled operators, or fail where they are required (DAN_FAST_REQUIRE_EXTENSION=1)."""
    if dan_fast_kernels.EXTENSION is None:
        message = f"the extension is not built: {dan_fast_kernels.WHY_NOT}"
        if os.environ.get("DAN_FAST_REQUIRE_EXTENSION") == "1":
            pytest.fail(message)
        pytest.skip(message)


@pytest.fixture
def tiny_model() -> dan_fast.DAN:
    return dan_fast.DAN(networks.tiny_config()).eval()


@pytest.fixture
def tiny_weights(tiny_model, tmp_path) -> Path:
    path = tmp_path / "tiny.safetensors"
    dan_fast.save(tiny_model, path)
    return path

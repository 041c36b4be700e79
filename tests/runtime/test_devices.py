import subprocess
import sys

import pytest

from dan_fast.errors import DanFastError
from dan_fast.runtime.devices import pick_device

# Takes 800 MB, then prints its own peak and that of a child that takes nothing.
MEASURE = """
import subprocess, sys, torch
from dan_fast.runtime.devices import peak_memory
if "child" not in sys.argv:
    large = torch.ones(200_000_000)
print(peak_memory(torch.device("cpu")), flush=True)
if "child" not in sys.argv:
    subprocess.run([sys.executable, __file__, "child"], check=True)
"""


@pytest.mark.parametrize("name", ["nowhere", "cuda:99", ""])
def test_a_device_that_is_not_there_is_an_error(name):
    with pytest.raises(DanFastError, match=f"device '{name}' cannot be used here"):
        pick_device(name)


def test_the_peak_of_a_process_is_its_own(tmp_path):
    """It counts what the process took, and a child does not inherit it."""
    pytest.importorskip("resource")
    (tmp_path / "measure.py").write_text(MEASURE)
    printed = subprocess.run([sys.executable, tmp_path / "measure.py"], capture_output=True, text=True, check=True)
    peak, of_child = map(int, printed.stdout.split())
    assert peak > 800_000_000
    if sys.platform == "linux":
        assert of_child < peak - 500_000_000

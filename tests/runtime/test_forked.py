"""The network works in children of a fork, on one thread, with one warning. Each test has a time limit."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")

START = """
import multiprocessing, os, sys, warnings
import torch
torch.set_num_threads(2)
import dan_fast
from support.networks import tiny_config
torch.manual_seed(0)
model = dan_fast.DAN(tiny_config()).eval().requires_grad_(False)
upscaler = dan_fast.Upscaler(model)
lr = torch.rand(1, 3, 48, 40)
image = (lr[0].permute(1, 2, 0) * 255).to(torch.uint8).numpy()
USES = {"model": lambda: model(lr).sr.sum().item(), "upscaler": lambda: int(upscaler(image).image.sum()),
        "operator": lambda: dan_fast.ops.blur_downsample(lr, torch.full((1, 5, 5), 0.04), 2).sum().item()}

def forked(function):
    # Run function in a child of os.fork, without multiprocessing; returns the exit code.
    child = os.fork()
    if child == 0:
        code = 1
        try:
            function()
            code = 0
        finally:
            sys.stdout.flush()
            os._exit(code)
    return os.waitpid(child, 0)[1]
"""


def run(code: str) -> str:
    try:
        result = subprocess.run([sys.executable, "-c", START + textwrap.dedent(code)], capture_output=True, text=True,
                                timeout=300, cwd=str(Path(__file__).parents[1]),
                                env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)})
    except subprocess.TimeoutExpired:
        pytest.fail("hangs")
    assert result.returncode == 0, result.stderr
    assert "Traceback" not in result.stderr
    return result.stdout + result.stderr


@pytest.mark.parametrize("used", [True, False], ids=["after use", "before use"])
@pytest.mark.parametrize("name", ["model", "upscaler", "operator"])
def test_a_child_computes_the_same(name, used):
    printed = run(f"""
        use = USES[{name!r}]
        expected = use() if {used} else None
        def child():
            first, second = use(), use()
            assert first == second and torch.get_num_threads() == 1
            print("child", first)
        assert forked(child) == 0
        result = use()
        assert expected in (None, result) and torch.get_num_threads() == 2
        print("parent", result)
    """)
    found = dict(line.split() for line in printed.splitlines() if line.startswith(("child", "parent")))
    assert float(found["child"]) == pytest.approx(float(found["parent"]), rel=1e-5)
    assert printed.count("computing on one thread") == 1


def test_multiprocessing_and_grandchildren():
    """A pool as most programs make it, whose workers fork again."""
    printed = run("""
        def work(n):
            use = list(USES.values())[n % 3]
            return use(), forked(use)
        [use() for use in USES.values()]
        with multiprocessing.get_context("fork").Pool(2) as pool:
            results = pool.map(work, range(6), chunksize=1)
        assert all(code == 0 for _, code in results), results
        print("done")
    """)
    assert "done" in printed


def test_workers_of_a_data_loader():
    printed = run("""
        class Images(torch.utils.data.Dataset):
            def __len__(self):
                return 4
            def __getitem__(self, n):
                return upscaler(image).image
        upscaler(image)
        loader = torch.utils.data.DataLoader(Images(), batch_size=2, num_workers=2, timeout=60,
                                             multiprocessing_context="fork")
        assert sum(len(batch) for batch in loader) == 4
        print("done")
    """)
    assert "done" in printed


def test_does_not_warn_without_need():
    """Nothing changes on one thread; and the child's owner may have chosen its threads."""
    printed = run("""
        torch.set_num_threads(1)
        upscaler(image)
        assert forked(USES["upscaler"]) == 0
        torch.set_num_threads(2)
        def child():
            torch.set_num_threads(3)
            from dan_fast.runtime.forked import warn_if_forked
            warn_if_forked()
        assert forked(child) == 0
        print("done")
    """)
    assert "done" in printed and "one thread" not in printed


def test_while_other_threads_compute():
    """As in a server that forks under load: locks that the threads held must not block the child."""
    printed = run("""
        import threading
        expected = [use() for use in USES.values()]
        ended = threading.Event()
        def compute():
            while not ended.is_set():
                [use() for use in USES.values()]
        threads = [threading.Thread(target=compute) for _ in range(2)]
        [thread.start() for thread in threads]
        def child():
            for use, value in zip(USES.values(), expected):
                assert abs(use() - value) <= 1e-5 * abs(value)
        codes = [forked(child) for _ in range(6)]
        ended.set()
        assert codes == [0] * 6, codes
        print("done")
    """)
    assert "done" in printed


def test_silence_of_another_thread_ends_with_it():
    """A child that is forked while another thread reads an image can read images, print and warn."""
    printed = run("""
        import threading
        from dan_fast.runtime.silence import Silence
        switched = []
        def switch_off():
            switched.append("off")
            return lambda: switched.append("on")
        silence = Silence(switch_off)
        inside, done = threading.Event(), threading.Event()
        def other():
            with silence:
                inside.set()
                done.wait()
        thread = threading.Thread(target=other)
        thread.start()
        inside.wait()
        def child():
            assert switched == ["off", "on"], switched
            with silence:
                assert switched[2:] == ["off"]
            assert switched[3:] == ["on"]
        assert forked(child) == 0
        silence._lock.acquire()
        assert forked(child) == 0
        silence._lock.release()
        with silence:
            def leave():
                silence.__exit__(None, None, None)
                child()
            assert switched == ["off"] and forked(leave) == 0
        done.set()
        thread.join()
        assert switched == ["off", "on"]
        print("done")
    """)
    assert "done" in printed

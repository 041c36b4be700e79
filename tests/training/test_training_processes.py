"""Several processes of one run, on the CPU (gloo)."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from test_training_checkpoints import TINY, figures, photo  # noqa: F401  (a fixture)

from dan_fast.cli import main
from dan_fast.errors import DanFastError
from dan_fast.training.config_file import write_config
from dan_fast.training.processes import Processes
from dan_fast.training.run import Run, RunOptions

if not torch.distributed.is_available():
    pytest.skip("this torch has no torch.distributed", allow_module_level=True)


pytestmark = pytest.mark.usefixtures("one_thread")
HANGS = 300  # seconds after which a process hangs, even on a busy machine


@pytest.fixture
def common(photo, tmp_path) -> list[str]:  # noqa: F811
    write_config(tmp_path / "tiny.json", replace(TINY, training=replace(TINY.training, steps=8, batch=4)), 0)
    return ["--config", str(tmp_path / "tiny.json"), "--data", str(photo), "--val", str(photo), "--device", "cpu",
            "--precision", "fp32", "--log-every", "1", "--save-every", "4"]


def start(arguments: list[str], rank: int, port: int, program: Sequence[str] = ("-m", "dan_fast.train")
          ) -> subprocess.Popen:
    environment = {**os.environ, "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2", "OMP_NUM_THREADS": "1",
                   "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "TORCH_GLOO_LAZY_INIT": "0"}
    return subprocess.Popen([sys.executable, *program, *arguments], env=environment,
                            stderr=subprocess.PIPE, text=True)


def free_port() -> int:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return server.getsockname()[1]


def test_two_processes_take_the_steps_of_one_with_the_double_batch(common, tmp_path):
    assert main(["train", *common, "--out", str(tmp_path / "one")]) == 0
    port, begun = free_port(), time.perf_counter()
    pair = [start([*common, "--out", str(tmp_path / "two")], rank, port) for rank in (0, 1)]
    errors = [process.communicate(timeout=HANGS)[1] for process in pair]
    elapsed = time.perf_counter() - begun
    assert [process.returncode for process in pair] == [0, 0], errors
    assert "2 processes" in errors[0] and "2 processes" not in errors[1]  # only the main process logs
    one, two = figures(tmp_path / "one"), figures(tmp_path / "two")
    assert len(one) == len(two) == 9
    for a, b in zip(one[1:], two[1:], strict=True):
        assert list(map(float, b)) == pytest.approx(list(map(float, a)), rel=2e-4), (a, b)
    # Images per second are those of both together, 4 per step.
    rows = [row.split(",") for row in (tmp_path / "two" / "metrics.csv").read_text().splitlines()[1:]]
    assert 0 < sum(4 / float(row[5]) for row in rows) < elapsed
    scores = [(tmp_path / name / "validation.csv").read_text().splitlines()[1].split(",") for name in ("one", "two")]
    assert list(map(float, scores[1])) == pytest.approx(list(map(float, scores[0])), rel=1e-3)


def test_when_one_process_is_killed_the_other_ends_with_a_word(common, tmp_path):
    port, out = free_port(), tmp_path / "run"
    pair = [start([*common, "--steps", "100000", "--out", str(out)], rank, port) for rank in (0, 1)]
    until(lambda: (out / "metrics.csv").exists() and len(figures(out)) > 3, pair)
    pair[1].kill()
    error = pair[0].communicate(timeout=HANGS)[1]
    pair[1].communicate()
    assert pair[0].returncode == 2
    assert "another process of this run is gone" in error and "--resume auto" in error and "Traceback" not in error


def test_ctrl_c_in_one_process_stops_both_at_the_same_step(common, tmp_path):
    port, out = free_port(), tmp_path / "run"
    pair = [start([*common, "--steps", "100000", "--out", str(out)], rank, port) for rank in (0, 1)]
    until(lambda: (out / "metrics.csv").exists() and len(figures(out)) > 3, pair)
    pair[1].send_signal(signal.SIGTERM)
    errors = [process.communicate(timeout=HANGS)[1] for process in pair]
    assert [process.returncode for process in pair] == [130, 130], errors
    assert "stopped and saved at step" in errors[0]


# The main process's clock advances by a fifth of a second with each reading; the other one's is wrong. Each process
# ends by printing its results.
BY_THE_CLOCK = """
import hashlib, itertools, os, sys
import dan_fast.commands.train as command
from dan_fast.training.time_limit import TimeLimit
asked, wrong = itertools.count(), os.environ["RANK"] != "0"
TimeLimit.used = property(lambda self: 1e9 if wrong else next(asked) / 5)
train = command.train

def train_and_print(run, *arguments):
    finished = train(run, *arguments)
    weights = hashlib.sha256(run.training_step.weights.values.detach().numpy().tobytes()).hexdigest()
    print("ended", run.step, run.begins, weights, file=sys.stderr)
    return finished

command.train = train_and_print
from dan_fast.cli import main
sys.argv[0:1] = ["dan-fast", "train"]
sys.exit(main())
"""


def test_by_the_clock_the_main_process_tells_the_time(common, tmp_path):
    port, out = free_port(), tmp_path / "run"
    arguments = [*common, "--out", str(out), "--minutes", "0.4", "--schedule", "cosine", "--warmup", "1"]
    pair = [start(arguments, rank, port, ["-c", BY_THE_CLOCK]) for rank in (0, 1)]
    try:
        errors = [process.communicate(timeout=HANGS)[1] for process in pair]
    finally:
        for process in pair:
            process.kill()
    assert [process.returncode for process in pair] == [0, 0], errors
    ends = [next(line for line in error.splitlines() if line.startswith("ended")) for error in errors]
    assert ends[0] == ends[1]
    step = int(ends[0].split()[1])
    rates = [float(row[4]) for row in figures(out)[1:]]
    assert step == len(rates) > 8 and rates[-1] < 1e-5 and max(rates) > 9e-4
    assert (out / f"checkpoints/step-{step:09d}.pt").exists()


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_torchrun_starts_again_and_goes_on(common, tmp_path):
    out = tmp_path / "run"
    arguments = ["-m", "dan_fast.train", *common, "--steps", "150", "--out", str(out), "--resume", "auto"]
    run = subprocess.Popen([sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2",
                            "--max-restarts", "2", *arguments], stderr=subprocess.PIPE, text=True)
    until(lambda: (out / "metrics.csv").exists() and len(figures(out)) > 12, [run])
    workers = Path(f"/proc/{run.pid}/task/{run.pid}/children").read_text().split()
    os.kill(int(workers[-1]), signal.SIGKILL)
    try:
        error = run.communicate(timeout=HANGS)[1]
    finally:
        run.terminate()
    assert run.returncode == 0, error[-3000:]
    assert "steps 0 to 150" in error and error.count("to 150 on cpu") == 2
    assert len(figures(out)) == 151


def test_a_batch_that_cannot_be_shared_is_an_error(tmp_path):
    with pytest.raises(DanFastError, match="batch=2 cannot be shared by 3"):
        Run(TINY, 0, RunOptions(tmp_path, torch.device("cpu")), Processes(0, 3))


def until(condition, processes) -> None:
    end = time.monotonic() + HANGS
    while not condition():
        assert time.monotonic() < end, "nothing happened"
        for process in processes:
            assert process.poll() is None, process.stderr.read()
        time.sleep(0.02)

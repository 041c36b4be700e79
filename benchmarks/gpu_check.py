"""Everything that only a GPU can show, in one run of at most nine minutes: ``make gpu-check``.

    python benchmarks/gpu_check.py

It builds and installs the source tree, runs the tests that need a GPU and compute-sanitizer, tunes the Triton kernels
(kernels/tuned.json), and runs every benchmark that needs a GPU. One table is printed at the end; the same as CSV, and
as JSON with device, versions, clocks and git revision, is in benchmarks/results/. Each part is a process with a time
limit: one that fails costs only itself.

Needs a CUDA build of torch, and what ``pip install '.[test]'`` brings. Exit code: 0, or 1 if a part failed, or 2
without a GPU.
"""

from __future__ import annotations

import csv
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
SECONDS = 540  # in all
RESERVE = 20  # for each part that is still to come
GRACE = 5  # for a part to end when it is asked to
PYTHON = sys.executable
SANITIZED = ["-m", "pytest", "-q", "-x", "tests/test_blur_downsample_cuda.py", "-k", "small or strides"]
COLUMNS = ("benchmark", "us", "us_reference", "ratio", "of_floor", "against")


@dataclass
class Part:
    """A command, the environment that it adds, and the most seconds that it may take."""

    name: str
    command: list[str]
    limit: float
    environment: dict[str, str]


@dataclass
class Outcome:
    """How a part went; ``failure`` is empty if it went well."""

    name: str
    seconds: float
    failure: str
    output: str


def parts(json_folder: Path) -> list[Part]:
    """In the order that they run in: what the later ones need comes first."""
    pytest, sanitizer = [PYTHON, "-m", "pytest", "-q"], ["compute-sanitizer", "--error-exitcode", "3"]
    alone = {"PYTORCH_NO_CUDA_MEMORY_CACHING": "1"}  # else a kernel may leave its tensor without leaving the cache's
    found = [
        Part("build", [PYTHON, "-m", "pip", "install", "--no-build-isolation", "--no-deps", "."], 120,
             {"DAN_FAST_CUDA": "1"}),
        Part("tests", [*pytest, "tests/test_blur_downsample_cuda.py", "tests/test_triton_on_gpu.py",
                        "tests/test_inference_on_gpu.py", "tests/test_training_on_gpu.py"], 180, {}),
        Part("memcheck", [*sanitizer, "--tool", "memcheck", PYTHON, *SANITIZED], 60, alone),
        Part("racecheck", [*sanitizer, "--tool", "racecheck", PYTHON, *SANITIZED], 60, alone),
        Part("tune", [PYTHON, "benchmarks/tune.py"], 90, {}),
    ]
    for path in sorted(ROOT.glob("benchmarks/bench_*.py")):
        if "require_gpu" in path.read_text():
            target = f"--benchmark-json={json_folder / path.stem}.json"
            found.append(Part(path.stem, [*pytest, "-k", "not cpu", str(path.relative_to(ROOT)), target], 60, {}))
    # Last, as torch.compile, which it compares with, takes its time.
    found.append(Part("bench_inference", [*pytest, "benchmarks/bench_inference.py", "-k",
                                          "v2 and image-1 and (64x64 or 510x340)",
                                          f"--benchmark-json={json_folder / 'bench_inference.json'}"], 150, {}))
    return found


def run(part: Part, limit: float) -> Outcome:
    """The part, ended with all its processes after ``limit`` seconds."""
    start = time.monotonic()
    failure = ""
    with tempfile.TemporaryFile("w+", errors="replace") as log:
        try:
            # In the background of a script interrupts are ignored, which processes would inherit.
            process = subprocess.Popen(part.command, cwd=ROOT, stdout=log, stderr=subprocess.STDOUT,
                                       env={**os.environ, **part.environment}, start_new_session=True,
                                       preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))
        except OSError as error:
            return Outcome(part.name, 0.0, f"does not start: {error}", "")
        try:
            code = process.wait(limit)
            failure = f"exit code {code}" if code else ""
        except subprocess.TimeoutExpired:
            failure = f"not done after {limit:.0f} s"
            _end(process)
        except BaseException:
            _end(process)
            raise
        log.seek(0)
        output = log.read()
    return Outcome(part.name, time.monotonic() - start, failure, output)


def _end(process: subprocess.Popen) -> None:
    """Asks first: pytest and tune.py then write down what they have."""
    process.send_signal(signal.SIGINT)
    with suppress(subprocess.TimeoutExpired):
        process.wait(GRACE)
    with suppress(ProcessLookupError):  # what is left of its session
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def run_all(every: Sequence[Part], seconds: float) -> list[Outcome]:
    """One after the other; a part may not take so long that too little is left for those after it."""
    end = time.monotonic() + seconds
    outcomes = []
    for index, part in enumerate(every):
        left, others = end - time.monotonic(), len(every) - index - 1
        print(f"{part.name} … ", end="", flush=True)
        outcomes.append(run(part, min(part.limit, max(left - RESERVE * others, left / (others + 1), 0))))
        print(f"{outcomes[-1].seconds:.0f} s, {outcomes[-1].failure or 'done'}", flush=True)
    return outcomes


def rows_of(benchmarks: dict) -> list[dict[str, object]]:
    """One row a case of what pytest-benchmark wrote."""
    rows = []
    for case in benchmarks["benchmarks"]:
        info = case["extra_info"]
        seconds = info.get("s_a_call", case["stats"]["median"])
        rows.append({
            "benchmark": f"{Path(case['fullname'].partition('::')[0]).stem.removeprefix('bench_')} {case['name']}",
            "us": 1e6 * seconds,
            "us_reference": 1e6 * info["reference_s_a_call"] if "reference_s_a_call" in info else None,
            "ratio": info.get("ratio"), "of_floor": info.get("of_floor"), "against": info.get("against"),
        })
    return rows


def table(rows: Sequence[dict[str, object]]) -> str:
    """The rows with aligned columns; a number has three digits."""
    def text(value: object) -> str:
        return "" if value is None else f"{value:.3g}" if isinstance(value, float) else str(value)

    lines = [list(COLUMNS), *([text(row[name]) for name in COLUMNS] for row in rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(COLUMNS))]
    return "\n".join("  ".join(value.ljust(width) for value, width in zip(line, widths, strict=True)).rstrip()
                     for line in lines)


def said(*command: str) -> str:
    """What the command prints, or why it does not."""
    try:
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=20, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError) as error:
        return f"{command[0]}: {error}"


def facts() -> dict[str, object]:
    """What a figure depends on."""
    query = "name,driver_version,power.limit,temperature.gpu,clocks.sm,clocks.mem,clocks.max.sm,clocks.max.mem"
    versions = said(PYTHON, "-c", "import json; from dan_fast import doctor; print(json.dumps(doctor.versions()))")
    return {
        "date": time.strftime("%Y-%m-%d %H:%M:%S %z"),
        "revision": said("git", "describe", "--always", "--dirty", "--abbrev=12"),
        "versions": json.loads(versions) if versions.startswith("{") else versions,
        "gpu": dict(zip(query.split(","), said("nvidia-smi", f"--query-gpu={query}", "--format=csv,noheader")
                        .partition("\n")[0].split(", "), strict=False)),
    }


def write(folder: Path, device: str, record: dict[str, object], rows: Sequence[dict[str, object]]) -> Path:
    """The record as JSON and its rows as CSV, named after the device; the JSON's path comes back."""
    path = folder / f"gpu_{re.sub('[^a-z0-9]+', '_', device.lower()).strip('_')}.json"
    folder.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({**record, "rows": rows}, indent=1) + "\n")
    with path.with_suffix(".csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)
    return path


def why_no_gpu() -> str:
    """Why torch can use no NVIDIA GPU here; empty if it can."""
    try:
        import torch
    except ImportError as error:
        return f"torch does not import: {error}"
    if torch.version.cuda is None:
        return f"torch {torch.__version__} is built without CUDA"
    return "" if torch.cuda.is_available() else "torch finds no NVIDIA GPU (see nvidia-smi)"


def main() -> int:
    if reason := why_no_gpu():
        print(f"gpu-check needs an NVIDIA GPU: {reason}", file=sys.stderr)
        return 2
    import torch

    with tempfile.TemporaryDirectory() as folder:
        outcomes = run_all(parts(Path(folder)), SECONDS)
        rows = [row for path in sorted(Path(folder).glob("*.json")) if path.stat().st_size
                for row in rows_of(json.loads(path.read_text()))]
    record: dict[str, object] = {**facts(), "parts": [asdict(outcome) for outcome in outcomes]}
    path = write(RESULTS, torch.cuda.get_device_name(), record, rows)
    failed = [outcome for outcome in outcomes if outcome.failure]
    for outcome in failed:
        print(f"\n--- {outcome.name}: {outcome.failure}\n{outcome.output[-3000:]}")
    print(f"\n{table(rows)}\n\n{path.relative_to(ROOT)} and .csv, {sum(o.seconds for o in outcomes):.0f} s; "
          + (f"failed: {', '.join(outcome.name for outcome in failed)}" if failed else "all parts done"))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())

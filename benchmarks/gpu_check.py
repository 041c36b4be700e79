"""Tests and measures everything that needs a GPU, in sections that cannot disturb each other: ``make gpu-check``.

    python benchmarks/gpu_check.py                      every section, in at most 14 minutes
    python benchmarks/gpu_check.py infer train          only these
    python benchmarks/gpu_check.py --prebuilt --seconds 680 --out FOLDER      use what gpu_carry.py built
    python benchmarks/gpu_check.py --dry                run every line that needs no GPU, on a CPU, with tiny images

Each section is a process with its own time limit; when that is up, the process is asked to stop, then killed with all
its children. The limits add up to less than the whole time, except for the last two sections, which get the rest. The
folder gets figures in ``results.jsonl`` as soon as they are known, all output in ``log.txt``, and tuned choices in
``tuned.json``. ``infer``, ``train``, ``profile`` and ``tune`` leave out the parts that the section ``fit`` finds unfit
and those that ``DAN_FAST_WITHOUT`` names. The last 12,000 characters of output are the ends of failed sections, the
figures that matter, and one line about all sections.

Needs a CUDA build of torch and the packages of ``pip install '.[test]'``. Exit code: 0, or 1 if a section failed, or 2
without a GPU.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from gpu_carry import ARCHIVE, CACHE, PROBE, REVISION, link_kernels

ROOT = Path(__file__).parents[1]
RESULTS = "results.jsonl"
WITHOUT = "DAN_FAST_WITHOUT"  # kernels/without.py
SECONDS = 800.0
GRACE = 4.0  # seconds that a section has to stop when it is asked to
LEAST = 8.0  # with fewer seconds left no section is begun
OUTPUT = 12_000  # characters of the summary
LOG = 1_000_000  # bytes of each section's output that are kept


@dataclass(frozen=True)
class Section:
    """One process of the check.

    Attributes:
        limit: seconds.
        command: without one, ``benchmarks/sections/<name>.py`` measures.
        leaves_out: it leaves out the parts that ``fit`` found unfit.
        dry: it is part of ``--dry``.
        environment: variables that it gets in addition.
    """

    name: str
    limit: float
    command: tuple[str, ...] = ()
    leaves_out: bool = False
    dry: bool = False
    environment: dict[str, str] = field(default_factory=dict)


@dataclass
class Outcome:
    """The end of a section; ``failure`` is empty if it went well."""

    name: str
    seconds: float
    failure: str
    output: str


def sections(*, prebuilt: bool, out: Path) -> list[Section]:
    """The sections that run by default, in order."""
    python, bench = sys.executable, str(ROOT / "benchmarks")
    optional = [flag for module, *flags in (("pytest_timeout", "--timeout=60"), ("xdist", "-n", "6"))
                if importlib.util.find_spec(module) for flag in flags]

    def tests(name: str, limit: float, *files: str, but: str = "") -> Section:
        return Section(name, limit, (python, "-m", "pytest", "-q", "--tb=short", "-p", "no:cacheprovider", *optional,
                                     *(f"tests/{file}.py" for file in files), *(("-k", f"not {but}") if but else ())))
    build = Section("build", 120, (python, "-m", "pip", "install", "--no-build-isolation", "--no-deps", "."),
                    environment={"DAN_FAST_CUDA": "1"})
    probe = Section("probe", 10, (str(PROBE),))
    return [
        *(() if prebuilt else (build,)),
        Section("env", 20, dry=True), *((probe,) if PROBE.is_file() else ()), Section("fit", 50, dry=True),
        Section("ops", 60, dry=True),
        tests("t_triton", 45, "ops/test_triton_on_gpu"),
        tests("t_inference", 50, "inference/test_inference_on_gpu"), Section("infer", 60, leaves_out=True, dry=True),
        # The test of the clock lasts half a minute: it is in t_clock.
        tests("t_training", 50, "training/test_training_on_gpu", but="clock"),
        Section("train", 55, leaves_out=True, dry=True),
        Section("profile", 20, leaves_out=True, dry=True), tests("t_blur", 40, "ops/test_blur_downsample_cuda"),
        Section("tune", 140, (python, f"{bench}/tune.py", "--seconds", "130", "--out", str(out / "tuned.json")),
                leaves_out=True, dry=True),
        Section("compile", 70, dry=True),
    ]


def further() -> list[Section]:
    """The sections that run only when they are named: they take long or need tools of the CUDA toolkit.

    They are training by the clock, two sanitizers, and the hardware's counters of the convolution.
    """
    python = sys.executable
    sanitize = (tool("compute-sanitizer"), "--error-exitcode", "3", "--tool")
    pytest = (python, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider")
    # With torch's cache a GPU kernel could leave its tensor and still be in memory that torch owns.
    alone = {"PYTORCH_NO_CUDA_MEMORY_CACHING": "1"}
    return [
        Section("t_clock", 75, (*pytest, "-k", "clock", "tests/training/test_training_on_gpu.py")),
        Section("memcheck", 90, (*sanitize, "memcheck", *pytest, "-k", "matches_reference and torch.float16",
                                 "tests/ops/test_triton_on_gpu.py"), environment=alone),
        Section("racecheck", 40, (*sanitize, "racecheck", *pytest, "-k", "small or strides",
                                  "tests/ops/test_blur_downsample_cuda.py"), environment=alone),
        # ncu ends after two GPU kernels, before the section starts PyTorch's profiler: both cannot count at once.
        Section("ncu", 40, (tool("ncu"), "--clock-control", "none", "--set", "full", "-k",
                            "regex:descriptor_kernel", "-s", "20", "-c", "2", "--kill", "yes", python,
                            str(Path(__file__)), "--section", "profile")),
    ]


def tool(name: str) -> str:
    """Finds a program of the CUDA toolkit, which need not be on the PATH."""
    folders = (os.environ.get("CUDA_HOME"), "/usr/local/cuda")
    found = shutil.which(name) or next((path for folder in filter(None, folders)
                                        if (path := shutil.which(name, path=f"{folder}/bin"))), None)
    return found or name


def execute(section: Section, limit: float, environment: dict[str, str], log: Path) -> Outcome:
    """Run the section, and end it with all its processes after ``limit`` seconds; ``log`` gets its output at once."""
    begin, failure = time.monotonic(), ""
    command = section.command or (sys.executable, str(Path(__file__)), "--section", section.name)
    with log.open("ab") as file:
        file.write(f"\n===== {section.name}\n".encode())
        file.flush()
        start = file.tell()
        try:
            # A script in the background ignores interrupts, and its children inherit that: SIG_DFL undoes it.
            process = subprocess.Popen(
                command, cwd=ROOT, stdout=file, stderr=subprocess.STDOUT, start_new_session=True,
                env={**os.environ, "PYTHONUNBUFFERED": "1", "DAN_FAST_SECTION": section.name, **environment,
                     **section.environment},
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))
        except OSError as error:
            return Outcome(section.name, 0.0, f"does not start: {error}", "")
        try:
            code = process.wait(limit)
            failure = f"exit code {code}" if code else ""
        except subprocess.TimeoutExpired:
            failure = f"not done after {limit:.0f} s"
            _end(process)
        except BaseException:
            _end(process)
            raise
    return Outcome(section.name, time.monotonic() - begin, failure, _shortened(log, start))


def _shortened(log: Path, start: int) -> str:
    """Cut what the log has from byte ``start`` on to its last ``LOG`` bytes, and return these."""
    with log.open("r+b") as file:
        end = file.seek(0, os.SEEK_END)
        file.seek(max(start, end - LOG))
        output = file.read()
        if end - start > LOG:
            file.seek(start)
            file.write(output)
            file.truncate()
    return output.decode(errors="replace")


def _end(process: subprocess.Popen) -> None:
    """Interrupt the process, so that pytest and tune.py write down what they have; then kill its whole session."""
    process.send_signal(signal.SIGINT)
    with suppress(subprocess.TimeoutExpired):
        process.wait(GRACE)
    with suppress(ProcessLookupError):  # nothing of it is left
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def execute_all(every: Sequence[Section], seconds: float, out: Path, environment: dict[str, str]) -> list[Outcome]:
    """Run the sections one after the other, each within its limit or the time that is left."""
    end = time.monotonic() + seconds
    outcomes = []
    for section in every:
        left = end - time.monotonic() - GRACE
        if left < min(LEAST, section.limit):
            outcomes.append(Outcome(section.name, 0.0, "no time was left", ""))
            continue
        print(f"{section.name} … ", end="", flush=True)
        unfit = {WITHOUT: ",".join(left_out(out))} if section.leaves_out else {}
        outcomes.append(execute(section, min(section.limit, left), {"OUT": str(out), **environment, **unfit},
                                out / "log.txt"))
        print(f"{outcomes[-1].seconds:.0f} s, {outcomes[-1].failure or 'done'}", flush=True)
    return outcomes


def figures(out: Path) -> list[dict]:
    """Read the figures in the folder; a line that was cut off is skipped."""
    rows = []
    path = out / RESULTS
    for line in path.read_text(errors="replace").splitlines() if path.is_file() else ():
        with suppress(ValueError):
            rows.append(json.loads(line))
    return rows


def left_out(out: Path) -> list[str]:
    """Name the parts that the caller leaves out and those that the section ``fit`` found unfit."""
    asked = [name.strip() for name in os.environ.get(WITHOUT, "").split(",")]
    unfit = [row["part"] for row in figures(out) if row["section"] == "fit" and not row["fit"]]
    return list(dict.fromkeys(filter(None, (*asked, *unfit))))


# The sections whose figures are printed first, as there may not be room for all.
ORDER = ("fit", "infer", "train", "env", "ops", "compile", "profile", "probe")


def summary(rows: Sequence[dict], outcomes: Sequence[Outcome], out: Path, room: int = OUTPUT) -> str:
    """Return the ends of failed sections, the figures that matter, and a line on all, in ``room`` characters."""
    failed = [outcome for outcome in outcomes if outcome.failure]
    last = "; ".join(f"{outcome.name} {outcome.seconds:.0f} s {outcome.failure or 'done'}" for outcome in outcomes)
    last += f"\n{out / RESULTS}; {'failed: ' + ', '.join(outcome.name for outcome in failed) if failed else 'all done'}"
    room -= len(last) + 1
    ends = []
    for outcome in failed:
        text = f"--- {outcome.name}: {outcome.failure}\n{outcome.output[-900:].strip()}\n"
        if len(text) <= room // 2:
            ends.append(text)
            room -= len(text)
    lines = []
    for row in sorted(_that_matter(rows), key=lambda row: (*ORDER, row["section"]).index(row["section"])):
        line = _line(row)
        if len(line) + 1 > room:
            break
        lines.append(line)
        room -= len(line) + 1
    return "".join(ends) + "".join(line + "\n" for line in lines) + last


def _that_matter(rows: Sequence[dict]) -> list[dict]:
    """Leave out the slower configurations of the convolution, but for wrong and failed ones."""
    best: dict[tuple, dict] = {}
    others = []
    for row in rows:
        if "config" not in row or "WRONG" in row or "FAILED" in row:
            others.append(row)
            continue
        key = row["what"], row["C"], row["shape"]
        if key not in best or row["us"] < best[key]["us"]:
            best[key] = row
    return [*others, *best.values()]


def _line(row: dict) -> str:
    values = (f"{key}={value:.4g}" if isinstance(value, float) else f"{key}={value}" for key, value in row.items()
              if value is not None and key not in ("section", "device"))
    return f"{row['section']}: {' '.join(values)}"[:230]


def prebuilt(out: Path) -> dict[str, str]:
    """Return the environment variables with which the checkout runs without an installation.

    It then uses the compiled extension and the filled cache of Triton that ``gpu_carry.py`` made.
    """
    if ARCHIVE.is_file():
        with tarfile.open(ARCHIVE) as archive:
            archive.extractall(CACHE.parent, filter="data")
    site = Path(tempfile.mkdtemp(prefix="dan-fast-site-"))
    link_kernels(site)
    path = os.pathsep.join(filter(None, (str(site), str(ROOT), os.environ.get("PYTHONPATH"))))
    revision = REVISION.read_text().strip() if REVISION.is_file() else ""
    return {"PYTHONPATH": path, "TRITON_CACHE_DIR": str(CACHE), **({"DAN_FAST_REVISION": revision} if revision else {})}


def revision() -> str:
    """Name the state of the source: ``DAN_FAST_REVISION`` if it is set, else what git says."""
    if known := os.environ.get("DAN_FAST_REVISION"):
        return known
    command = ["git", "describe", "--always", "--dirty", "--abbrev=12"]
    with suppress(OSError, subprocess.SubprocessError):
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()
    return "unknown"


def why_no_gpu() -> str:
    """Say why torch can use no NVIDIA GPU here; empty if it can.

    ``doctor.why_no_gpu`` says the same, but this must work before dan_fast is installed, and without torch.
    """
    try:
        import torch
    except ImportError as error:
        return f"torch does not import: {error}"
    if torch.version.cuda is None:
        return f"torch {torch.__version__} is built without CUDA"
    return "" if torch.cuda.is_available() else "torch finds no NVIDIA GPU (see nvidia-smi)"


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("names", nargs="*", metavar="SECTION",
                        help="default: all but t_clock, memcheck, racecheck and ncu")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results" / "gpu",
                        help="folder for the figures (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=SECONDS,
                        help="limit for all sections together (default: %(default)s)")
    parser.add_argument("--prebuilt", action="store_true",
                        help="use the files of gpu_carry.py; build and install nothing")
    parser.add_argument("--dry", action="store_true", help="run the same lines on a CPU, with tiny images")
    parser.add_argument("--section", help=argparse.SUPPRESS)
    args, begin = parser.parse_args(argv), time.monotonic()
    if args.section:
        importlib.import_module(f"sections.{args.section}").measure()
        return 0
    out = args.out.resolve()
    every = sections(prebuilt=args.prebuilt or args.dry, out=out)
    known = {section.name: section for section in (*every, *further())}
    if unknown := [name for name in args.names if name not in known]:
        parser.error(f"there is no section {', '.join(unknown)}; there are {', '.join(known)}")
    chosen = [known[name] for name in args.names] or every
    if args.dry:
        chosen = [section for section in chosen if section.dry]
    elif reason := why_no_gpu():
        print(f"gpu-check needs an NVIDIA GPU: {reason}", file=sys.stderr)
        return 2
    out.mkdir(parents=True, exist_ok=True)
    for name in (RESULTS, "log.txt"):  # those of an earlier check
        if (out / name).is_file():
            shutil.move(out / name, out / f"{name}.before")
    environment = {"DAN_FAST_DRY": "1"} if args.dry else {}
    environment |= prebuilt(out) if args.prebuilt else {}
    with (out / RESULTS).open("a") as file:
        file.write(json.dumps({"section": "env", "what": "run", "date": time.strftime("%Y-%m-%d %H:%M:%S %z"),
                               "revision": environment.get("DAN_FAST_REVISION") or revision()}) + "\n")
    outcomes = execute_all(chosen, args.seconds - (time.monotonic() - begin), out, environment)
    print(summary(figures(out), outcomes, out))
    return 1 if any(outcome.failure for outcome in outcomes) else 0


if __name__ == "__main__":
    sys.exit(main())

"""``dan-fast doctor`` says which parts are active on this machine."""

from __future__ import annotations

import argparse
from collections.abc import Iterator

import torch
from dan_fast_kernels.without import VARIABLE

from .. import doctor
from ..checkpoint import WEIGHTS, available
from ..command_line.output import add_output_arguments, print_json
from ..errors import DanFastError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--gpu", action="store_true",
                        help="try every part of the GPU code against its reference, in a minute, or longer the "
                        "first time, when GPU kernels are compiled; the exit code is 1 if a part is not fit")
    add_output_arguments(parser, quiet=False)


def run(args: argparse.Namespace) -> int:
    if args.gpu and not torch.cuda.is_available():
        raise DanFastError(f"--gpu: there is no GPU to try: {doctor.why_no_gpu()}")
    if args.json:
        return _print_for_programs(args.gpu)
    if args.gpu:
        return _try_the_gpu()
    cpu = doctor.cpu()
    gpus = {f"GPU {i}": str(gpu) for i, gpu in enumerate(doctor.gpus())} or {"GPU": "none"}
    print_table("Versions", doctor.versions())
    print_table("Machine", {"CPU name": cpu.name, "CPU threads": f"{cpu.threads} of {cpu.cores}",
                            "CPU instructions": cpu.instructions, "CPU threads wait": cpu.waiting, **gpus})
    print_table("Parts", {part.name: str(part) for part in doctor.parts()})
    print_table("Weights", {"names": ", ".join(available()), "folder": str(WEIGHTS)})
    return 0


def _print_for_programs(try_gpu: bool) -> int:
    cpu = doctor.cpu()
    checks = [{"part": part, "fit": not reason, "reason": reason or None}
              for part, reason in _verdicts()] if try_gpu else None
    print_json(
        "doctor", versions={name.lower(): version for name, version in doctor.versions().items()},
        cpu={"name": cpu.name, "threads": cpu.threads, "cores": cpu.cores, "instructions": cpu.instructions,
             "threads_wait": cpu.waiting},
        gpus=[{"name": gpu.name, "memory_bytes": gpu.memory, "capability": gpu.capability} for gpu in doctor.gpus()],
        parts=[{"name": part.name, "active": part.active, "reason": part.reason, "advice": part.advice or None}
               for part in doctor.parts()],
        weights={"names": available(), "folder": str(WEIGHTS)}, checks=checks)
    return 0 if checks is None or all(check["fit"] for check in checks) else 1


def _verdicts() -> Iterator[tuple[str, str]]:
    """Every part of the GPU code, and the reason why it is not fit or nothing."""
    from ..self_test import self_test  # it imports Triton's kernels

    yield from self_test()


def _try_the_gpu() -> int:
    print(f"Parts on {torch.cuda.get_device_name()}")
    unfit = []
    for part, reason in _verdicts():
        print(f"  {part:<20}{'not fit: ' + reason if reason else 'fit'}", flush=True)
        unfit += [part] if reason else []
    if not unfit:
        print("All are fit.")
        return 0
    print(f"{VARIABLE}={','.join(unfit)} leaves out what is not fit; other code does its work, slower.")
    return 1


def print_table(title: str, rows: dict[str, str]) -> None:
    print(title)
    for name, value in rows.items():
        print(f"  {name:<18}{value}")

"""``dan-fast doctor`` says which parts are active on this machine."""

from __future__ import annotations

import argparse

import torch
from dan_fast_kernels.without import VARIABLE

from .. import doctor
from ..checkpoint import WEIGHTS, available
from ..errors import DanFastError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--gpu", action="store_true",
                        help="try every part of the GPU code against its reference, in ten seconds, or a minute the "
                        "first time, when GPU kernels are compiled; the exit code is 1 if a part is not fit")


def run(args: argparse.Namespace) -> int:
    if args.gpu:
        return _try_the_gpu()
    cpu = {f"CPU {key}": value for key, value in doctor.cpu().items()}
    gpus = {f"GPU {i}": gpu for i, gpu in enumerate(doctor.gpus())} or {"GPU": "none"}
    print_table("Versions", doctor.versions())
    print_table("Machine", cpu | gpus)
    print_table("Parts", {part.name: str(part) for part in doctor.parts()})
    print_table("Weights", {"names": ", ".join(available()), "folder": str(WEIGHTS)})
    return 0


def _try_the_gpu() -> int:
    if not torch.cuda.is_available():
        raise DanFastError(f"--gpu: there is no GPU to try: {doctor.why_no_gpu()}")
    from ..self_test import self_test

    print(f"Parts on {torch.cuda.get_device_name()}")
    unfit = []
    for verdict in self_test():
        print(f"  {verdict.part:<20}{'not fit: ' + verdict.reason if verdict.reason else 'fit'}", flush=True)
        unfit += [verdict.part] if verdict.reason else []
    if not unfit:
        print("All are fit.")
        return 0
    print(f"{VARIABLE}={','.join(unfit)} leaves out what is not fit; other code does its work, slower.")
    return 1


def print_table(title: str, rows: dict[str, str]) -> None:
    print(title)
    for name, value in rows.items():
        print(f"  {name:<18}{value}")

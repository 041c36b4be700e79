"""``dan-fast doctor``."""

from __future__ import annotations

import argparse

from .. import doctor
from ..checkpoint import WEIGHTS


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The doctor asks nothing."""


def run(args: argparse.Namespace) -> int:
    cpu = {f"CPU {key}": value for key, value in doctor.cpu().items()}
    gpus = {f"GPU {i}": gpu for i, gpu in enumerate(doctor.gpus())} or {"GPU": "none"}
    print_table("Versions", doctor.versions())
    print_table("Machine", cpu | gpus)
    print_table("Parts", {part.name: str(part) for part in doctor.parts()})
    print_table("Weights", {"names": ", ".join(doctor.weights()), "folder": str(WEIGHTS)})
    return 0


def print_table(title: str, rows: dict[str, str]) -> None:
    print(title)
    for name, value in rows.items():
        print(f"  {name:<18}{value}")

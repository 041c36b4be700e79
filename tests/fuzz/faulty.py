"""A reader with every fault that fuzzing looks for, to test the fuzzing."""

import os
from pathlib import Path

FAULTS = ("none", "raises", "prints", "takes memory", "crashes")


def sound_files() -> dict[str, bytes]:
    """Return one file; how it is broken decides what goes wrong."""
    return {"a.bin": bytes(range(256))}


def read(path: Path) -> None:
    """Go wrong in the way that the sum of the file's bytes selects, or not at all, as with the sound file."""
    fault = FAULTS[(sum(path.read_bytes()) - sum(range(256))) % len(FAULTS)]
    if fault == "raises":
        raise RuntimeError("of its own")
    if fault == "prints":
        os.write(2, b"from deep inside")
    if fault == "takes memory":
        bytearray(400_000_000).replace(b"\0", b"\1")
    if fault == "crashes":
        os._exit(9)

"""Any program that upscales image files, in the place of a network."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..errors import DanFastError, ImageError, ToolError
from ..image_files import read_image, to_8_bits, write_image

TIMEOUT = 300.0  # seconds
_PYTHON = re.compile(r"python[\d.]*")
_PLACEHOLDER = re.compile(r"\{(in|out|scale)\}")
_LONGEST_LINE = 200  # characters of a tool's error


class ToolResult(NamedTuple):
    """The image (H*s, W*s, 3) uint8 that a tool made; it estimates no kernel."""

    image: np.ndarray
    kernel: None = None


class CommandUpscaler:
    """Upscales images with another program, which reads a PNG file and writes one, in a temporary folder.

    It runs without a shell, in the current folder, with no standard input; what it prints is not shown.

    Args:
        command: the command line, in which ``{in}`` and ``{out}`` stand for the names of the two files, and
            ``{scale}`` for the scale; words are split as a shell does it.
        scale: how many times as large the result must be.
        timeout: seconds that the program may take for an image; then it and its children are killed.

    Attributes:
        name: the program's name, for tables; the script's or module's if the program is Python.

    Raises:
        DanFastError: the command cannot be one, or there is no such program.
    """

    def __init__(self, command: str, scale: int, timeout: float = TIMEOUT) -> None:
        try:
            self._words = shlex.split(command)
        except ValueError as error:
            raise DanFastError(f"the command {command!r} cannot be split into words: {error}") from None
        for needed in ("{in}", "{out}"):
            if needed not in command:
                raise DanFastError(f"the command {command!r} lacks {needed}: expected both {{in}} and {{out}}, which "
                                   "become the names of the image files")
        if not shutil.which(self._words[0]):
            raise DanFastError(f"the command {command!r}: there is no program {self._words[0]!r} that can be run")
        self.scale, self.timeout, self.name = scale, timeout, _name(self._words)

    def __call__(self, lr: np.ndarray) -> ToolResult:
        """Upscale ``lr`` (h, w, 3) uint8.

        Raises:
            ToolError: the program failed, took too long, or did not write an image of the right size.
        """
        with tempfile.TemporaryDirectory(prefix="dan-fast-") as folder:
            source, target, errors = (Path(folder) / name for name in ("in.png", "out.png", "errors"))
            write_image(source, lr)
            values = {"in": str(source), "out": str(target), "scale": str(self.scale)}
            words = [_PLACEHOLDER.sub(lambda found: values[found[1]], word) for word in self._words]
            self._run(words, errors)
            if not target.exists():
                raise ToolError(f"{self.name} wrote no image{_first_line(errors)}")
            try:
                image = to_8_bits(read_image(target).visible().rgb)
            except ImageError as error:
                reason = str(error).removeprefix(f"{target}: ")
                raise ToolError(f"{self.name} wrote what is no image: {reason}{_first_line(errors)}") from None
            height, width = lr.shape[0] * self.scale, lr.shape[1] * self.scale
            if image.shape[:2] != (height, width):
                raise ToolError(f"{self.name} wrote {image.shape[1]}x{image.shape[0]} pixels, expected {width}x{height}"
                                f"{_first_line(errors)}")
            return ToolResult(image)

    def _run(self, words: list[str], errors: Path) -> None:
        """Run the program; its standard error goes to a file. Raises ToolError."""
        with open(errors, "wb") as stderr:
            try:
                # In a session of its own, so that its children can be killed with it.
                process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=stderr,
                                           start_new_session=True)
            except OSError as error:
                raise ToolError(f"{self.name} cannot be started: {error.strerror}") from None
            try:
                code = process.wait(self.timeout)
            except subprocess.TimeoutExpired:
                raise ToolError(f"{self.name} took more than {self.timeout:g} s and was stopped{_first_line(errors)}"
                                ) from None
            finally:  # after an interrupt too
                if process.poll() is None:
                    _kill(process)
        if code < 0:
            raise ToolError(f"{self.name} was ended by signal {-code}{_first_line(errors)}")
        if code:
            raise ToolError(f"{self.name} ended with exit code {code}{_first_line(errors)}")


def _kill(process: subprocess.Popen) -> None:
    """Kill ``process`` and all of its group."""
    if hasattr(os, "killpg"):
        os.killpg(process.pid, signal.SIGKILL)
    else:
        process.kill()
    process.wait()


def _name(words: list[str]) -> str:
    named = words[0]
    if _PYTHON.fullmatch(Path(named).stem):
        named = next((word for word in words[1:] if not word.startswith("-") and not _PLACEHOLDER.search(word)), named)
    return Path(named).stem or named


def _first_line(errors: Path) -> str:
    """The first line of a tool's standard error that is not empty, after a colon; nothing if there is none."""
    with open(errors, "rb") as file:
        lines = file.read(1 << 16).decode("utf-8", "replace").splitlines()
    line = next((line.strip() for line in lines if line.strip()), "")
    return f": {line[:_LONGEST_LINE]}" if line else ""

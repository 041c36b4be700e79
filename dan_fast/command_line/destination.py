"""The place of results: a folder, one file, or standard output."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import DanFastError
from ..image_files import check_writable
from ..image_files.finding import SUFFIXES

STREAM = "-"  # standard input or output
# Image files that are neither read nor written, so that nobody gets a folder of such a name.
_OTHER_IMAGES = (".gif", ".jxl", ".jp2", ".tga", ".psd", ".raw", ".dng")


@dataclass(frozen=True)
class Destination:
    """The place of results.

    Attributes:
        folder: of the results.
        file: the only result, in ``folder``.
        stream: the only result goes to standard output.
    """

    folder: Path
    file: Path | None = None
    stream: bool = False

    def __str__(self) -> str:
        return "standard output" if self.stream else str(self.file or self.folder)

    def check_number(self, photos: int) -> None:
        """Raise ``DanFastError`` if this place is for one photo and there are more."""
        if photos > 1 and (self.file or self.stream):
            raise DanFastError(f"--output {self}: {photos} photos cannot become one file: give a folder")


def destination(text: str) -> Destination:
    """The place that ``--output`` names: ``-``, a name with the suffix of an image, or else a folder.

    A folder that exists is a folder, whatever its name, and so is a name that ends in a slash.

    Raises:
        DanFastError: standard output is a terminal, the name cannot be one, or such images are not written.
    """
    if text == STREAM:
        if sys.stdout.isatty():
            raise DanFastError("--output -: standard output is a terminal, which shows no image: send it to a file "
                               "or a program")
        return Destination(Path(), stream=True)
    if not text or "\0" in text:
        raise DanFastError(f"--output {text!r}: expected the name of a folder or of a file")
    path = Path(text)
    ends_in_slash = text.endswith(tuple(filter(None, (os.sep, os.altsep))))
    if path.suffix.lower() in (*SUFFIXES, *_OTHER_IMAGES) and not ends_in_slash and not path.is_dir():
        check_writable(path, 1, 1)
        return Destination(path.parent, file=path)
    return Destination(path)


def check_streams(paths: Sequence[Path]) -> bool:
    """Whether the photo is read from standard input.

    Raises:
        DanFastError: so it is, but there are other photos too, or it is a terminal.
    """
    if Path(STREAM) not in paths:
        return False
    if len(paths) > 1:
        raise DanFastError("-: a photo from standard input comes alone: leave the others out")
    if sys.stdin.isatty():
        raise DanFastError("-: standard input is a terminal: give a photo to it, dan-fast upscale - < photo.jpg")
    return True

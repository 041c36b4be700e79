"""Progress bars of commands, and messages that do not tear them."""

from __future__ import annotations

import sys
from collections.abc import Callable

from tqdm import tqdm

from ..errors import printable


def say(message: str) -> None:
    """Write a line to stderr without tearing a progress bar."""
    tqdm.write(printable(message), file=sys.stderr)


class PhotoBar:
    """A bar over photos that also moves within a photo; to be used as a context.

    It is shown on stderr, if that is a terminal.

    Args:
        photos: the number of photos.
        hidden: show nothing anywhere.
    """

    def __init__(self, photos: int, *, hidden: bool = False) -> None:
        # disable=None: no bar unless stderr is a terminal.
        self._bar = tqdm(total=photos, unit="photo", disable=True if hidden else None,
                         bar_format="{percentage:3.0f}%|{bar}| {n:.4g}/{total_fmt} photos [{elapsed}<{remaining}]")
        self._done = 0

    def __enter__(self) -> PhotoBar:
        return self

    def __exit__(self, *error: object) -> None:
        self._bar.close()

    def within(self, done: int, total: int) -> None:
        """Move within the photo, of which ``done`` of ``total`` steps are done; a ``progress`` of ``Upscaler``."""
        self._move_to(self._done + done / total)

    def next_photo(self) -> None:
        """Move to the end of the photo."""
        self._done += 1
        self._move_to(self._done)

    def _move_to(self, place: float) -> None:
        self._bar.update(place - self._bar.n)


def skip_into(skipped: list[str]) -> Callable[[str], None]:
    """Return a function that says why an image is skipped and appends the reason to ``skipped``."""
    def skip(reason: str) -> None:
        skipped.append(reason)
        say(f"skipped: {reason}")
    return skip

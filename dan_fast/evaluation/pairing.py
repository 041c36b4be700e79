"""Files of two folders that belong together by their names, as test sets and results name them.

Two files are partners if their names without the file's suffix are the same, or are the same without what says which of
the two they are: ``0001x4`` and ``0001``, ``Canon_001_LR4`` and ``Canon_001_HR`` (RealSR), ``im_7``, ``img_7`` and
``kernel_7`` (DIV2KRK). Files in sub-folders have partners in the sub-folder of the same name.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from ..errors import ImageError

_LOW = re.compile(r"[ ._-](?:lr|lq)[ ._-]?x?\d*$", re.I)
# A word that only says what the number after it counts.
_WORD = re.compile(r"^(?:im|img|image|kernel|ker|k)[ ._-]?(?=\d+$)", re.I)
_EXPECTED = "expected the same name, or one that ends in x4, _LR, _LR4, _HR, _lr_x4 or the like"


class Partners(NamedTuple):
    """Files of two folders by name.

    Attributes:
        pairs: a file of the first folder and its partner in the second, sorted by the first.
        errors: why every other file has none, sorted by file.
    """

    pairs: list[tuple[Path, Path]]
    errors: dict[Path, ImageError]


def find_partners(first: Path, firsts: Iterable[Path], second: Path, seconds: Iterable[Path], scale: int | None = None
                  ) -> Partners:
    """Pair ``firsts``, files below ``first``, with ``seconds``, files below ``second``.

    Partners by the same name are found before those by similar ones. Where several files could be partners, none is.

    Args:
        scale: the number that names may end in, in ``x4`` or ``LR4``; None: any, as results of any size may be called.
    """
    left, right = set(firsts), set(seconds)
    pairs: list[tuple[Path, Path]] = []
    errors: dict[Path, ImageError] = {}
    def exact(stem: str) -> str:
        return stem

    def shorter(stem: str) -> str:
        return _without_ending(stem, scale, after_letters=True)

    def shortest(stem: str) -> str:
        return common_name(stem, scale)

    # One ending less on one side comes before fewer on both: fox2_x4 belongs to fox2, not to fox1.
    for name, other in ((exact, exact), (shorter, exact), (exact, shorter), (shortest, shortest)):
        ours, theirs = _by_name(left, first, name), _by_name(right, second, other)
        for key in ours.keys() & theirs.keys():
            if len(ours[key]) == len(theirs[key]) == 1:
                pairs.append((ours[key][0], theirs[key][0]))
            else:
                several = sorted([*ours[key], *theirs[key]])
                errors |= {path: _ambiguous(path, several) for path in several}
            left -= set(ours[key])
            right -= set(theirs[key])
    errors |= {path: _alone(path, second) for path in left} | {path: _alone(path, first) for path in right}
    return Partners(sorted(pairs), dict(sorted(errors.items())))


def name_below(path: Path, folder: Path) -> str:
    """The path of a file below its folder, or its name where ``folder`` is that file."""
    return path.name if path == folder else path.relative_to(folder).as_posix()


def common_name(stem: str, scale: int | None = None) -> str:
    """What ``stem``, a name without the file's suffix, has in common with its partner's; arguments as above."""
    # Several endings may follow each other, as in _lr_x4, but something remains.
    while (shorter := _without_ending(stem, scale)) != stem:
        stem = shorter
    return _WORD.sub("", stem)


def _without_ending(stem: str, scale: int | None, *, after_letters: bool = False) -> str:
    """``stem`` without its last ending, or as it is if it has none or nothing would remain.

    ``after_letters``: ``babyx4`` ends in ``x4`` too, which may also be a part of a name, as in ``fox4``.
    """
    number = r"\d+(?:\.\d+)?" if scale is None else f"(?:1|{scale})"
    size = r"|[ ._-]\d{2,5}x\d{0,5}" if scale is None else ""
    before = "[ ._-]?" if after_letters else r"(?:[ ._-]|(?<=\d))"
    ending = rf"(?:{before}x{number}|[ ._-](?:lr|hr|sr|gt|lq|hq|out)(?:[ ._-]?x?{number})?{size})$"
    return re.sub(ending, "", stem, flags=re.I) or stem


def split_by_name(images: Sequence[Path]) -> tuple[list[Path], list[Path]]:
    """The images of one folder, as RealSR's: those that are called low-resolution, ``_LR4`` or the like, and others."""
    low = [path for path in images if _LOW.search(path.stem)]
    return low, [path for path in images if path not in set(low)]


def _by_name(paths: Iterable[Path], folder: Path, name: Callable[[str], str]) -> dict[tuple[Path, str], list[Path]]:
    """The paths by sub-folder and ``name``."""
    found: dict[tuple[Path, str], list[Path]] = {}
    for path in sorted(paths):
        found.setdefault((path.relative_to(folder).parent, name(path.stem)), []).append(path)
    return found


def _alone(path: Path, other: Path) -> ImageError:
    return ImageError(f"{path}: has no partner in {other}: {_EXPECTED}")


def _ambiguous(path: Path, several: Sequence[Path]) -> ImageError:
    others = ", ".join(str(other) for other in several if other != path)
    return ImageError(f"{path}: may belong to several of {others}: rename them, so that two belong together")

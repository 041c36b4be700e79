"""docs/troubleshooting.md explains every message for users that the package can raise, and no other."""

from __future__ import annotations

import errno
import os
import re
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import pytest
from support.raised import VARIES, Raised, raised

PAGE = Path(__file__).parents[2] / "docs" / "troubleshooting.md"
# Messages of commands that are not the text of such an error: those of the system, and where the others are made.
OTHERS = (
    *(Raised("the system", os.strerror(code)) for code in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES,
                                                           errno.EPIPE)),
    Raised("dan_fast/command_line/photo_jobs.py", "not enough memory: use a smaller --tile"),
    Raised("dan_fast/command_line/photo_jobs.py", "nothing more can be written: … photos are left out"),
    Raised("dan_fast/inference/upscaler.py", "there is not enough memory: upscale with a smaller tile"),
    Raised("dan_fast/cli.py", "not enough memory"),
    Raised("dan_fast/cli.py", "not enough memory on the GPU"),
    Raised("kernels/without.py", "DAN_FAST_WITHOUT=…: there is no part …; expected some of …"),
)


class Quote(NamedTuple):
    """A message as the page quotes it, and the heading that it stands under."""

    text: str
    heading: str


def quotes(page: str) -> list[Quote]:
    """The messages that the page lists, each a line ``- `message` ``."""
    found, heading = [], ""
    for line in page.splitlines():
        heading = line[3:] if line.startswith("## ") else heading
        found += [Quote(text, heading) for text in re.findall(r"^- `(.*)`$", line)]
    return found


def explains(quote: str, text: str) -> bool:
    """Whether ``quote`` is ``text``, or leaves out at most half of its words by ``…``."""
    pattern = ".*".join(map(re.escape, quote.split(VARIES)))
    return bool(re.fullmatch(pattern, text)) and 2 * _letters(quote) >= _letters(text)


def _letters(text: str) -> int:
    return len(re.findall(r"\w", text))


def missing(messages: list[Raised], listed: list[Quote]) -> list[str]:
    """What to add to the page: each message, its file, and the heading under which the others of this file are."""
    place = {message: next((quote.heading for quote in listed if explains(quote.text, message.text)), None)
             for message in messages}
    found = []
    for message in (message for message, heading in place.items() if heading is None):
        for near in (message.place.rpartition(":")[0], message.place.rpartition("/")[0]):
            headings = Counter(heading for other, heading in place.items() if heading and other.place.startswith(near))
            if headings:
                break
        under = f"## {headings.most_common(1)[0][0]}" if headings else "the heading that fits best"
        found.append(f"{message.place}: add this line to docs/troubleshooting.md, under {under}\n- `{message.text}`")
    return found


def test_every_message_is_explained():
    found = missing([*raised(), *OTHERS], quotes(PAGE.read_text(encoding="utf-8")))
    assert not found, f"{len(found)} messages are not on the page:\n\n" + "\n\n".join(found)


def test_every_quote_is_of_a_message_that_exists():
    texts = [message.text for message in (*raised(), *OTHERS)]
    rotten = [quote.text for quote in quotes(PAGE.read_text(encoding="utf-8"))
              if not any(explains(quote.text, text) for text in texts)]
    assert not rotten, "nothing raises these any more; take them off docs/troubleshooting.md:\n" + "\n".join(rotten)


def test_no_message_is_quoted_twice():
    count = Counter(quote.text for quote in quotes(PAGE.read_text(encoding="utf-8")))
    assert not [text for text, times in count.items() if times > 1]


def test_other_messages_are_where_they_are_said_to_be():
    for message in OTHERS:
        if message.place != "the system":
            source = (PAGE.parents[1] / message.place).read_text(encoding="utf-8")
            constant = message.text.replace("DAN_FAST_WITHOUT", VARIES).split(VARIES)
            assert all(part in source for part in constant), message


def test_messages_are_found_in_source(tmp_path):
    (tmp_path / "pkg").mkdir()
    (tmp_path / "pkg" / "a.py").write_text(
        'NEEDS = "pip install it"\n'
        "def f(x):\n"
        "    if x:\n"
        '        raise DanFastError(f"{x}: no such thing, "\n'
        '                           f"expected {x!r}{x}: {NEEDS}") from None\n'
        '    raise errors.ImageError("short" if x else "long")\n'
        "def g(x):\n"
        '    table = [(x, f"{x} is odd"), (not x, "nothing")]\n'
        "    for wrong, message in table:\n"
        "        if wrong:\n"
        "            raise DanFastError(message)\n"
        "    raise DanFastError(str(x))\n")
    assert {text for _, text in raised(tmp_path / "pkg")} == {
        "…: no such thing, expected …: pip install it", "short", "long", "… is odd", "nothing"}


def test_what_is_missing_is_said_with_its_place():
    listed = [Quote("…: is odd, take another", "Odd things")]
    messages = [Raised("dan_fast/a.py:3", "…: is odd, take another"), Raised("dan_fast/a.py:7", "…: is even")]
    (text,) = missing(messages, listed)
    assert "dan_fast/a.py:7" in text and "## Odd things" in text and text.endswith("- `…: is even`")


@pytest.mark.parametrize(("quote", "text", "expected"), [
    ("…: cannot be read: …", "…: cannot be read: …", True),
    ("…: part … is damaged…", "…: part … of … is damaged, copy it", True),
    ("…: part …", "…: part … of … is damaged, copy it again", False),  # too little of it
    ("…: part … is damaged", "…: part … of … is damaged, copy it", False),  # the end is missing
    ("…: cannot be written: …", "…: cannot be read: …", False),
])
def test_quotes_are_of_messages(quote, text, expected):
    assert explains(quote, text) == expected

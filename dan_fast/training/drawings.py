"""Synthetic drawings, to train on beside photos: lettering, comics, diagrams, printed pages.

Photos teach a network little about lines, flat areas and letters. These are drawn by Pillow, with the font that it
carries, so that no picture of anybody is needed. They are drawn larger and reduced, as a scan or a renderer would, so
that edges are antialiased.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from PIL import Image, ImageDraw, ImageFont

FINER = 3  # how many times as large it is drawn
SMALLEST = 32  # side in pixels
_LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.,!?&%-+()"

Colour = tuple[int, int, int]
Point = tuple[float, float]


def drawing(seed: int, height: int = 512, width: int = 512) -> np.ndarray:
    """Draw a picture, (height, width, 3) uint8 RGB; each seed gives another one, the same with every call.

    It is one of the kinds in ``KINDS``. Another version of Pillow may draw some pixels otherwise.

    Raises:
        ValueError: a side is smaller than ``SMALLEST`` pixels.
    """
    if min(height, width) < SMALLEST:
        raise ValueError(f"height={height}, width={width}: expected at least {SMALLEST} pixels")
    rng = np.random.default_rng((seed, 7_203))
    sheet = _Sheet(rng, height * FINER, width * FINER)
    kinds = list(KINDS.values())
    kinds[int(rng.integers(len(kinds)))](sheet)
    return np.asarray(sheet.image.reduce(FINER))


class _Sheet:
    """A picture that is being drawn, and the random numbers that decide what.

    Attributes:
        unit: the length of which a line of text or a small shape is a few, in the pixels of ``image``.
    """

    def __init__(self, rng: np.random.Generator, height: int, width: int) -> None:
        self.rng, self.height, self.width = rng, height, width
        self.unit = FINER * 8.0
        self.image = Image.new("RGB", (width, height))
        self.draw = ImageDraw.Draw(self.image)

    # --- random values --------------------------------------------------------------------------

    def between(self, low: float, high: float) -> float:
        return float(self.rng.uniform(low, high))

    def chance(self, probability: float) -> bool:
        return bool(self.rng.random() < probability)

    def point(self) -> Point:
        """A point on the sheet, or a little outside."""
        return self.between(-0.1, 1.1) * self.width, self.between(-0.1, 1.1) * self.height

    def colour(self, grey: bool = False) -> Colour:
        if grey:
            level = int(self.rng.integers(256))
            return level, level, level
        red, green, blue = (int(value) for value in self.rng.integers(0, 256, 3))
        return red, green, blue

    def ink(self) -> Colour:
        """A dark colour, mostly black."""
        return (0, 0, 0) if self.chance(0.7) else tuple(level // 4 for level in self.colour())  # type: ignore[return-value]

    def paper(self) -> Colour:
        """A light colour, mostly white."""
        return (255, 255, 255) if self.chance(0.6) else tuple(  # type: ignore[return-value]
            255 - level // 5 for level in self.colour())

    # --- parts ----------------------------------------------------------------------------------

    def fill(self, colour: Colour) -> None:
        self.image.paste(colour, (0, 0, self.width, self.height))

    def gradient(self, first: Colour, second: Colour) -> None:
        """Cover the sheet with a gradient in a random direction."""
        angle = self.between(0, 2 * math.pi)
        rows, columns = np.mgrid[0:self.height, 0:self.width].astype(np.float32)
        share = columns * math.cos(angle) + rows * math.sin(angle)
        share = (share - share.min()) / max(float(np.ptp(share)), 1e-6)
        pixels = np.array(first) + share[..., None] * (np.array(second) - np.array(first))
        self.image.paste(Image.fromarray(pixels.round().astype(np.uint8)))

    def outline(self, points: int, centre: Point, radius: float) -> list[Point]:
        """A closed curve around ``centre`` with ``points`` random corners, which do not cross."""
        angles = np.sort(self.rng.uniform(0, 2 * math.pi, points))
        radii = radius * self.rng.uniform(0.4, 1, points)
        return [(centre[0] + r * math.cos(a), centre[1] + r * math.sin(a)) for a, r in zip(angles, radii, strict=True)]

    def curve(self) -> list[Point]:
        """Points along a cubic Bezier curve through the sheet."""
        corners = np.array([self.point() for _ in range(4)])
        t = np.linspace(0, 1, 60)[:, None]
        weights = np.concatenate([(1 - t)**3, 3 * t * (1 - t)**2, 3 * t**2 * (1 - t), t**3], 1)
        return [(float(x), float(y)) for x, y in weights @ corners]

    def line_width(self) -> int:
        return max(1, round(self.unit * float(self.rng.exponential(0.35)) + FINER * 0.4))

    def shape(self, fill: Colour | None, ink: Colour | None) -> None:
        """A filled or outlined shape: polygon, ellipse, box or curve."""
        centre, radius = self.point(), self.unit * self.between(1, 16)
        box = [centre[0] - radius, centre[1] - radius * self.between(0.2, 1), centre[0] + radius, centre[1] + radius]
        width, kind = self.line_width(), int(self.rng.integers(4))
        if kind == 0:
            points = self.outline(int(self.rng.integers(3, 9)), centre, radius)
            self.draw.polygon(points, fill=fill, outline=ink, width=width)
        elif kind == 1:
            self.draw.ellipse(box, fill=fill, outline=ink, width=width)
        elif kind == 2:
            self.draw.rounded_rectangle(box, self.between(0, 0.4) * radius, fill=fill, outline=ink, width=width)
        else:
            self.draw.line(self.curve(), fill=ink or fill, width=width, joint="curve")

    def screentone(self, box: tuple[float, float, float, float], ink: Colour) -> None:
        """Dots in a regular grid, as comics are shaded."""
        pitch = self.unit * self.between(0.5, 1.2)
        radius = pitch * self.between(0.15, 0.45)
        for row, y in enumerate(np.arange(box[1], box[3], pitch / math.sqrt(2))):
            for x in np.arange(box[0] + (row % 2) * pitch / 2, box[2], pitch):
                self.draw.ellipse([x - radius, y - radius, x + radius, y + radius], fill=ink)

    def hatching(self, box: tuple[float, float, float, float], ink: Colour) -> None:
        """Parallel lines, as drawings are shaded."""
        pitch, width = self.unit * self.between(0.4, 1.2), max(1, self.line_width() // 3)
        slope = self.between(-1, 1)
        for x in np.arange(box[0], box[2], pitch):
            self.draw.line([x, box[1], x + slope * (box[3] - box[1]), box[3]], fill=ink, width=width)

    def words(self, longest: int) -> str:
        lengths = self.rng.integers(1, 9, max(1, longest // 6))
        return " ".join("".join(self.rng.choice(list(_LETTERS), length)) for length in lengths)[:longest] or "A"

    def text(self, left: float, top: float, size: float, colour: Colour, longest: int = 40, *, turned: bool = False
             ) -> None:
        """A line of random letters, ``size`` high, upright or turned, sometimes bold or framed."""
        font = ImageFont.load_default(max(6, round(size)))
        stroke = round(size * self.between(0.02, 0.1)) if self.chance(0.3) else 0
        frame = self.paper() if stroke and self.chance(0.5) else None
        words = self.words(longest)
        if not turned:
            self.draw.text((left, top), words, fill=colour, font=font, stroke_width=stroke, stroke_fill=frame)
            return
        right, bottom = self.draw.textbbox((0, 0), words, font=font, stroke_width=stroke)[2:]
        letters = Image.new("L", (round(right) + 1, round(bottom) + 1))
        ImageDraw.Draw(letters).text((0, 0), words, fill=255, font=font, stroke_width=stroke)
        letters = letters.rotate(self.between(-40, 40), Image.Resampling.BICUBIC, expand=True)
        self.image.paste(colour, (round(left), round(top)), letters)


# --- kinds ------------------------------------------------------------------------------------------


def _comic(sheet: _Sheet) -> None:
    """Black lines on white or flat colours, shading by dots and hatches, lettering in bubbles."""
    grey = sheet.chance(0.6)
    sheet.fill((255, 255, 255) if grey else sheet.colour())
    ink = (0, 0, 0)
    for _ in range(int(sheet.rng.integers(6, 20))):
        fill = sheet.colour(grey) if sheet.chance(0.5) else None
        sheet.shape(fill, ink)
        if sheet.chance(0.25):
            x, y = sheet.point()
            box = (x, y, x + sheet.unit * sheet.between(4, 20), y + sheet.unit * sheet.between(4, 20))
            (sheet.screentone if sheet.chance(0.6) else sheet.hatching)(box, ink)
    for _ in range(int(sheet.rng.integers(0, 4))):
        x, y = sheet.point()
        size = sheet.unit * sheet.between(1, 3)
        wide, high = size * sheet.between(4, 8), size * sheet.between(2, 4)
        sheet.draw.ellipse([x, y, x + wide, y + high], fill=(255, 255, 255), outline=ink, width=sheet.line_width())
        for line in range(int(high / size) - 1):
            sheet.text(x + 0.15 * wide, y + size * (line + 0.5), size * 0.8, ink, int(wide / size * 1.2))


def _poster(sheet: _Sheet) -> None:
    """Flat shapes without lines on a gradient, with large lettering."""
    sheet.gradient(sheet.colour(), sheet.colour())
    for _ in range(int(sheet.rng.integers(3, 15))):
        sheet.shape(sheet.colour(), None if sheet.chance(0.7) else sheet.colour())
    for _ in range(int(sheet.rng.integers(1, 6))):
        left, top = sheet.point()
        sheet.text(left, top, sheet.unit * sheet.between(1.5, 10), sheet.colour(), 24, turned=sheet.chance(0.5))


def _page(sheet: _Sheet) -> None:
    """Lines of text, as a printed page or a screen."""
    dark = sheet.chance(0.2)
    paper, ink = (sheet.ink(), sheet.paper()) if dark else (sheet.paper(), sheet.ink())
    sheet.fill(paper)
    top, left = sheet.unit * sheet.between(0, 4), sheet.unit * sheet.between(0, 6)
    while top < sheet.height:
        size = sheet.unit * (sheet.between(2.5, 5) if sheet.chance(0.15) else sheet.between(1, 2))
        for _ in range(int(sheet.rng.integers(1, 9))):
            longest = max(4, int(sheet.between(0.3, 1.1) * (sheet.width - left) / (0.55 * size)))
            sheet.text(left, top, size, sheet.colour() if sheet.chance(0.05) else ink, longest)
            top += size * 1.35
        if sheet.chance(0.2):
            sheet.draw.line([left, top, sheet.width - left, top], fill=ink, width=sheet.line_width())
        top += size


def _diagram(sheet: _Sheet) -> None:
    """Axes, a grid, curves, bars and labels."""
    paper, ink = sheet.paper(), sheet.ink()
    sheet.fill(paper)
    faint: Colour = tuple((p + i) // 2 for p, i in zip(paper, ink, strict=True))  # type: ignore[assignment]
    pitch = sheet.unit * sheet.between(3, 10)
    for x in np.arange(sheet.between(0, 1) * pitch, sheet.width, pitch):
        sheet.draw.line([x, 0, x, sheet.height], fill=faint, width=FINER)
        sheet.text(x, sheet.height - 2 * sheet.unit, sheet.unit * 1.2, ink, 4)
    for y in np.arange(sheet.between(0, 1) * pitch, sheet.height, pitch):
        sheet.draw.line([0, y, sheet.width, y], fill=faint, width=FINER)
        sheet.text(0, y, sheet.unit * 1.2, ink, 4)
    if sheet.chance(0.5):
        for x in np.arange(pitch / 2, sheet.width, pitch):
            top = sheet.between(0.1, 0.9) * sheet.height
            sheet.draw.rectangle([x, top, x + pitch * 0.5, sheet.height], fill=sheet.colour(), outline=ink,
                                 width=sheet.line_width() // 2)
    for _ in range(int(sheet.rng.integers(1, 6))):
        sheet.draw.line(sheet.curve(), fill=sheet.colour(), width=sheet.line_width(), joint="curve")
    for _ in range(int(sheet.rng.integers(1, 5))):
        left, top = sheet.point()
        sheet.text(left, top, sheet.unit * sheet.between(1, 2.5), ink, 20, turned=sheet.chance(0.2))


KINDS: dict[str, Callable[[_Sheet], None]] = {
    "comic": _comic, "poster": _poster, "page": _page, "diagram": _diagram}

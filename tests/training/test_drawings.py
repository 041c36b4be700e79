"""Synthetic drawings: repeatable, varied, antialiased, of any size."""

from __future__ import annotations

import numpy as np
import pytest

from dan_fast.training import drawings
from dan_fast.training.drawings import KINDS, drawing


@pytest.mark.parametrize("size", [(32, 32), (37, 90), (128, 64)])
def test_a_seed_is_a_picture_of_that_size(size):
    first, again, other = drawing(5, *size), drawing(5, *size), drawing(6, *size)
    assert first.shape == (*size, 3) and first.dtype == np.uint8
    assert np.array_equal(first, again) and not np.array_equal(first, other)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_drawn_at_any_seed(kind, monkeypatch):
    monkeypatch.setattr(drawings, "KINDS", {kind: KINDS[kind]})
    pictures = [drawing(seed, 96, 128).astype(int) for seed in range(12)]
    # Flat areas and sharp lines: many neighbours are equal, some differ strongly.
    steps = np.concatenate([abs(np.diff(picture, axis=1)).max(2).ravel() for picture in pictures])
    assert (steps <= 2).mean() > 0.5 and (steps > 100).mean() > 0.005
    # Antialiased: on the way from black to white there are other values.
    assert all(len(np.unique(picture)) > 8 for picture in pictures)


def test_all_kinds_come_up(monkeypatch):
    seen = []
    monkeypatch.setattr(drawings, "KINDS", {kind: lambda sheet, kind=kind: seen.append(kind) for kind in KINDS})
    for seed in range(60):
        drawing(seed, 32, 32)
    assert set(seen) == set(KINDS) and min(map(seen.count, KINDS)) >= 6


def test_letters_are_part_of_it(monkeypatch):
    written = []
    text = drawings._Sheet.text
    monkeypatch.setattr(drawings._Sheet, "text", lambda self, *given, **named: written.append(1) or text(
        self, *given, **named))
    for seed in range(20):
        drawing(seed, 128, 128)
    assert len(written) > 60


@pytest.mark.parametrize("size", [(31, 64), (64, 0)])
def test_sizes_that_are_too_small(size):
    with pytest.raises(ValueError, match=f"height={size[0]}, width={size[1]}: expected at least 32"):
        drawing(0, *size)

"""No evaluation image is among the training images, neither as a file nor in another size or format."""

import hashlib

import cv2
import numpy as np
import pytest

from dan_fast.evaluation.degraded_set import images_below
from dan_fast.image_files import read_image, to_8_bits

SIDE = 16
# Correlation of thumbnails. Copies of a photo reach 0.99 even as JPEG.
SAME = 0.97


def thumbnail(rgb):
    """Return a grey thumbnail (SIDE * SIDE,) with mean 0 and length 1; of a flat picture all 0."""
    grey = rgb.astype(np.float32).mean(2)
    small = cv2.resize(grey, (SIDE, SIDE), interpolation=cv2.INTER_AREA).ravel()
    small -= small.mean()
    return small / max(float(np.linalg.norm(small)), 1e-6)


def turned(rgb):
    """Return the picture turned and mirrored in all eight ways."""
    return [side for turns in range(4) for side in (np.rot90(rgb, turns), np.rot90(rgb, turns)[:, ::-1])]


@pytest.fixture(scope="module")
def training(shared):
    paths = [path for path, _ in images_below([shared / "data" / "train"])]
    pictures = [to_8_bits(read_image(path).rgb) for path in paths]
    return paths, pictures, np.stack([thumbnail(picture) for picture in pictures])


def similar(rgb, thumbnails):
    """Return the highest correlation with a thumbnail, and the thumbnail's number."""
    scores = np.stack([thumbnails @ thumbnail(side) for side in turned(rgb)]).max(0)
    return float(scores.max()), int(scores.argmax())


@pytest.mark.parametrize("name", ["Set5", "Set14", "B100"])
def test_no_evaluation_image_is_trained_on(shared, training, name):
    paths, pictures, thumbnails = training
    hashes = {hashlib.sha256(path.read_bytes()).digest() for path in paths}
    pixels = {hashlib.sha256(picture.tobytes()).digest() for picture in pictures}
    for path, image in images_below([shared / "data" / name]):
        rgb = to_8_bits(read_image(path).rgb)
        assert hashlib.sha256(path.read_bytes()).digest() not in hashes, f"{image} is a training file"
        assert hashlib.sha256(np.ascontiguousarray(rgb).tobytes()).digest() not in pixels, f"{image} is trained on"
        score, place = similar(rgb, thumbnails)
        assert score < SAME, f"{image} looks like {paths[place].name}: correlation {score:.3f}"


def test_a_copy_would_be_found(training):
    _, pictures, thumbnails = training
    for number in (0, 350, 699):
        small = cv2.resize(pictures[number], None, fx=0.6, fy=0.6, interpolation=cv2.INTER_CUBIC)
        copy = cv2.imdecode(cv2.imencode(".jpg", np.rot90(small), [cv2.IMWRITE_JPEG_QUALITY, 50])[1], -1)
        score, place = similar(copy, thumbnails)
        assert place == number and score > SAME

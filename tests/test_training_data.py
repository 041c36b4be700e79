import numpy as np
import pytest
import torch
from PIL import Image

from dan_fast.errors import ImageError
from dan_fast.training.data import PatchDataset, patch_loader


@pytest.fixture
def folder(tmp_path):
    rng = np.random.default_rng(0)
    (tmp_path / "deep").mkdir()
    for name, shape in (("a.png", (40, 60, 3)), ("deep/b.jpg", (64, 48, 3)), ("c.webp", (50, 50, 3)),
                        ("d.bmp", (33, 90, 3)), ("e.tif", (40, 40, 3)), ("small.png", (5, 70, 3))):
        Image.fromarray(rng.integers(0, 256, shape, np.uint8)).save(tmp_path / name)
    return tmp_path


def test_patches_have_their_size_even_from_small_images(folder):
    dataset = PatchDataset([folder], 32)
    assert len(dataset.images) == 6
    for index in range(40):
        patch = dataset[index]
        assert patch.shape == (3, 32, 32) and patch.dtype == torch.uint8 and patch.is_contiguous()
    assert PatchDataset([folder], 32, channels=1)[0].shape == (1, 32, 32)


def test_patches_depend_on_seed_and_number_only(folder):
    whole = torch.cat(list(patch_loader(PatchDataset([folder], 24, seed=7), 4, 0, 6, workers=0)))
    split = torch.cat(list(patch_loader(PatchDataset([folder], 24, seed=7), 4, 0, 6, workers=2)))
    later = torch.cat(list(patch_loader(PatchDataset([folder], 24, seed=7), 4, 4, 6, workers=0)))
    other = torch.cat(list(patch_loader(PatchDataset([folder], 24, seed=8), 4, 0, 6, workers=0)))
    assert torch.equal(whole, split) and torch.equal(whole[16:], later)
    assert not torch.equal(whole, other)


def test_every_turn_and_flip_comes_up(tmp_path):
    image = np.arange(16, dtype=np.uint8).reshape(4, 4, 1).repeat(3, 2)
    Image.fromarray(image).save(tmp_path / "a.png")
    dataset = PatchDataset([tmp_path], 4)
    seen = {dataset[i][0].numpy().tobytes() for i in range(100)}
    assert len(seen) == 8


def test_unreadable_files_are_reported_and_skipped(folder, caplog):
    (folder / "broken.png").write_bytes(b"not an image")
    (folder / "cut.jpg").write_bytes((folder / "deep/b.jpg").read_bytes()[:300])
    dataset = PatchDataset([folder], 16)
    for index in range(60):
        dataset[index]
    for name in ("broken.png", "cut.jpg"):
        assert sum(name in record.message for record in caplog.records) == 1


def test_nothing_to_train_on_is_an_error(tmp_path):
    with pytest.raises(ImageError, match="nowhere"):
        PatchDataset([tmp_path / "nowhere"], 16)
    (tmp_path / "notes.txt").write_text("no image")
    with pytest.raises(ImageError, match=str(tmp_path)):
        PatchDataset([tmp_path], 16)
    (tmp_path / "broken.png").write_bytes(b"")
    with pytest.raises(ImageError, match=r"broken\.png"):
        PatchDataset([tmp_path], 16)[0]

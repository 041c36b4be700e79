import io
import shutil
import zipfile

import numpy as np
import psutil
import pytest
import torch
from PIL import Image

from dan_fast.cli import main
from dan_fast.errors import ImageError
from dan_fast.image_files import JpegBytes, read_image
from dan_fast.training.data import PatchDataset, StreamPart, on_device, patch_loader
from dan_fast.training.gpu_images import GPUImages, fit_on_gpu
from dan_fast.training.jpeg_pack import DecodedImage, decoded_images
from dan_fast.training.pack import PackedImage, is_pack, packed_images, write_pack


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


def stream(folder, seed: int, steps: range, workers: int = 0, part: tuple[int, int] = (0, 1)) -> torch.Tensor:
    loader = patch_loader(PatchDataset([folder], 24, seed=seed), StreamPart(steps, 4, part), workers)
    return torch.cat(list(on_device(loader, torch.device("cpu"))))


def test_patches_depend_on_seed_and_number_only(folder):
    whole = stream(folder, 7, range(6))
    assert torch.equal(whole, stream(folder, 7, range(6), workers=2))
    assert torch.equal(whole[16:], stream(folder, 7, range(4, 6)))
    assert not torch.equal(whole, stream(folder, 8, range(6)))
    parts = [stream(folder, 7, range(6), part=(i, 2)).view(6, 2, 3, 24, 24) for i in range(2)]
    assert torch.equal(whole, torch.cat(parts, 1).flatten(0, 1))


def test_a_packed_folder_gives_its_patches(folder, tmp_path, capsys):
    pack = tmp_path.parent / f"{tmp_path.name}.tif"
    assert main(["pack", str(folder), "-o", str(pack)]) == 0
    assert "6 images" in capsys.readouterr().out
    assert is_pack(pack) and not is_pack(folder / "e.tif") and not is_pack(folder / "a.png")
    for channels in (3, 1):
        a, b = (PatchDataset([path], 32, channels=channels, seed=3) for path in (folder, pack))
        assert all(isinstance(image, PackedImage) for image in b.images)
        assert all(torch.equal(a[i], b[i]) for i in range(60))
        # And so do the images on a device, here the CPU.
        images = GPUImages(b, torch.device("cpu"))
        patches = torch.cat(list(images.batches(StreamPart(range(15), 4), 4)))
        assert torch.equal(patches, torch.stack([a[i] for i in range(60)]))
    assert not fit_on_gpu(b, torch.device("cpu"))
    loader = patch_loader(PatchDataset([pack], 32, channels=1, seed=3), StreamPart(range(15), 4), 2)
    assert torch.equal(patches, torch.cat(list(loader)))
    # Other readers open it, too.
    with Image.open(pack) as image:
        assert image.n_frames == 6 and np.array_equal(np.asarray(image), np.asarray(Image.open(folder / "a.png")))


def test_packing_skips_what_is_broken_and_leaves_nothing_half_done(folder, tmp_path, capsys, monkeypatch):
    (folder / "broken.png").write_bytes(b"no image")
    pack = tmp_path.parent / f"{tmp_path.name}.tif"
    assert main(["pack", str(folder), "-o", str(pack)]) == 1
    assert "broken.png" in capsys.readouterr().err and len(packed_images(pack)) == 6
    before = pack.read_bytes()

    def interrupted(reason: str):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_pack([(folder / "a.png", "a"), (folder / "broken.png", "b")], pack, interrupted)
    assert pack.read_bytes() == before
    assert not [path for path in pack.parent.iterdir() if path.name.startswith(".") and path.suffix == ".tif"]
    for arguments, word in (([folder, "-o", tmp_path / "x.zip"], ".tif"),
                            ([folder / "broken.png", "-o", tmp_path / "x.tif"], "none of the images"),
                            ([tmp_path / "nowhere", "-o", tmp_path / "x.tif"], "nowhere")):
        assert main(["pack", *map(str, arguments)]) == 2
        assert word in capsys.readouterr().err


def test_a_pack_cut_short_is_an_error(folder, tmp_path):
    pack = tmp_path.parent / f"{tmp_path.name}.tif"
    write_pack([(folder / "a.png", "a.png"), (folder / "c.webp", "c.webp")], pack, print)
    pack.write_bytes(pack.read_bytes()[:-100])
    with pytest.raises(ImageError, match=r"c\.webp: the file was cut short"):
        PatchDataset([pack], 16)


def test_a_pack_of_jpegs_gives_the_patches_of_those_jpegs(folder, tmp_path, capsys):
    pack, unpacked = tmp_path.parent / f"{tmp_path.name}.zip", tmp_path.parent / f"{tmp_path.name}-unpacked"
    assert main(["pack", str(folder), "-o", str(pack), "--jpeg", "90"]) == 0
    assert "6 images" in capsys.readouterr().out
    with zipfile.ZipFile(pack) as archive:  # any tool opens it
        assert archive.testzip() is None
        archive.extractall(unpacked)
        assert [entry.filename for entry in archive.infolist()] == [
            "000000_a.jpg", "000001_c.jpg", "000002_d.jpg", "000003_deep_b.jpg", "000004_e.jpg", "000005_small.jpg"]
        # It has quality 75 and would be larger with 90, so it is not encoded again.
        assert archive.read("000003_deep_b.jpg") == (folder / "deep/b.jpg").read_bytes()
    for channels in (3, 1):
        a, b = (PatchDataset([path], 32, channels=channels, seed=3) for path in (unpacked, pack))
        assert all(isinstance(image, DecodedImage) for image in b.images)
        assert all(torch.equal(a[i], b[i]) for i in range(60))
        patches = torch.cat(list(GPUImages(b, torch.device("cpu")).batches(StreamPart(range(15), 4), 4)))
        assert torch.equal(patches, torch.stack([a[i] for i in range(60)]))
    loader = patch_loader(PatchDataset([pack], 32, channels=1, seed=3), StreamPart(range(15), 4), 2)
    assert torch.equal(patches, torch.cat(list(loader)))
    # The decoded images are close, with higher quality closer; the same set gives the same file.
    assert main(["pack", str(folder), "-o", str(tmp_path / "best.zip"), "--jpeg", "100"]) == 0
    errors = [np.abs(image.pixels().astype(int) - read_image(folder / "a.png").rgb).mean()
              for image in (decoded_images(path)[0] for path in (pack, tmp_path / "best.zip"))]
    assert errors[1] < 1 < errors[0]
    with zipfile.ZipFile(pack) as archive:
        assert {entry.date_time for entry in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}


def test_a_pack_that_is_too_large_is_not_written(folder, tmp_path, capsys):
    for name, more, word in (("x.zip", ["--jpeg", "100"], "quality 100"), ("x.tif", [], "(--jpeg)")):
        out = tmp_path / name
        assert main(["pack", str(folder), "-o", str(out), *more, "--max-mib", "0.02"]) == 2
        error = capsys.readouterr().err.strip().splitlines()[-1]
        assert "the 6 images take 0.0" in error and word in error and "limit is 0.02" in error and not out.exists()
        assert main(["pack", str(folder), "-o", str(out), *more, "--max-mib", "1"]) == 0
        size = out.stat().st_size
        out.unlink()
        assert main(["pack", str(folder), "-o", str(out), *more, "--max-mib", str(size / 2**20)]) == 0
        out.unlink()
    for arguments, word in ((["x.zip", "--jpeg", "0"], "quality=0"), (["x.zip", "--jpeg", "101"], "quality=101"),
                            (["x.tif", "--jpeg", "90"], ".zip"), (["x.zip"], ".tif"),
                            (["x.tif", "--max-mib", "0"], "--max-mib 0"),
                            (["x.tif", "--max-mib", "nan"], "--max-mib nan")):
        assert main(["pack", str(folder), "-o", str(tmp_path / arguments[0]), *arguments[1:]]) == 2
        assert word in capsys.readouterr().err
        assert not (tmp_path / arguments[0]).exists()


@pytest.fixture
def jpegs(folder, tmp_path):
    pack = tmp_path.parent / f"{tmp_path.name}-jpegs.zip"
    assert main(["pack", str(folder), "-o", str(pack), "--jpeg", "90"]) == 0
    return pack


def add_to(pack, data: bytes, **options) -> None:
    """Add ``data`` as an image to an intact zip."""
    with zipfile.ZipFile(pack, "a") as archive:
        archive.writestr("000009_odd.jpg", data, **options)


def flip_a_byte(pack) -> None:
    data = bytearray(pack.read_bytes())
    data[1000] ^= 1
    pack.write_bytes(data)


def huge() -> bytes:
    """Return a JPEG of 32x32 pixels whose header promises 65,000 x 3,000."""
    buffer = io.BytesIO()
    Image.new("RGB", (32, 32)).save(buffer, "JPEG")
    data = bytearray(buffer.getvalue())
    start = data.index(b"\xff\xc0") + 5
    data[start:start + 4] = (3000).to_bytes(2, "big") + (65000).to_bytes(2, "big")
    return bytes(data)


@pytest.mark.parametrize("damage, word", [
    (lambda pack: pack.write_bytes(pack.read_bytes()[:-100]), "cannot be read as a packed file"),
    (flip_a_byte, "Bad CRC-32"),
    (lambda pack: add_to(pack, bytes(1000), compress_type=zipfile.ZIP_DEFLATED), "000009_odd.jpg' is compressed"),
    (lambda pack: add_to(pack, b"\x89PNG"), "000009_odd.jpg: expected a JPEG"),
    (lambda pack: add_to(pack, b"\xff\xd8\xff"), "000009_odd.jpg"),
    (lambda pack: add_to(pack, huge()), "65000x3000 pixels cannot be in a file"),
    (lambda pack: shutil.copy(other_zip(pack), pack), "not a zip that dan-fast pack"),
])
def test_a_damaged_pack_of_jpegs_is_refused_in_one_line(jpegs, tmp_path, capsys, damage, word):
    damage(jpegs)
    assert main(["train", "--data", str(jpegs), "--out", str(tmp_path / "run"), "--steps", "1", "--device", "cpu"]) == 2
    error = capsys.readouterr().err.strip().splitlines()
    assert len(error) == 1 and str(jpegs) in error[0] and word in error[0]


def other_zip(pack):
    with zipfile.ZipFile(pack.with_suffix(".other"), "w") as archive:
        archive.writestr("a.txt", "text")
    return pack.with_suffix(".other")


def test_more_pixels_than_memory_are_refused_before_any_is_decoded(jpegs, monkeypatch):
    monkeypatch.setattr(psutil, "virtual_memory", lambda: type("Memory", (), {"available": 30_000}))
    monkeypatch.setattr(JpegBytes, "read", lambda *_: pytest.fail("decoded"))
    with pytest.raises(ImageError, match=r"its 6 images take 0.0 GiB in memory, .*pack fewer"):
        decoded_images(jpegs)


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

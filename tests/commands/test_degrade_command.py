import numpy as np
import pytest

from dan_fast.cli import main
from dan_fast.evaluation.degraded_set import DegradedSet
from dan_fast.image_files import read_image, write_image


@pytest.fixture
def data(tmp_path):
    rng = np.random.default_rng(0)
    for name in ("a.png", "deep/b.png"):
        write_image(tmp_path / "data" / name, rng.integers(0, 256, (47, 42, 3), np.uint8))
    return tmp_path / "data"


def degrade(data, out, *options) -> int:
    return main(["degrade", str(data), "-o", str(out), *options])


def files(folder) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_writes_images_kernels_and_sharp_copies(data, tmp_path):
    out = tmp_path / "out"
    assert degrade(data, out, "--sigma", "2", "--save-hr") == 0
    assert set(files(out)) == {
        "lr/a.png", "hr/a.png", "kernel/a.png", "kernel/a.npy",
        "lr/deep/b.png", "hr/deep/b.png", "kernel/deep/b.png", "kernel/deep/b.npy"}
    assert read_image(out / "lr" / "a.png").rgb.shape == (11, 10, 3)
    np.testing.assert_array_equal(read_image(out / "hr" / "a.png").rgb, read_image(data / "a.png").rgb[:44, :40])
    kernel = np.load(out / "kernel" / "a.npy")
    assert kernel.shape == (21, 21)
    assert kernel.sum() == pytest.approx(1, abs=1e-5)


def test_makes_what_evaluate_measures(data, tmp_path):
    assert degrade(data, tmp_path / "out", "--scale", "2") == 0
    cases = list(DegradedSet.from_folder(data, 2))
    assert len(list((tmp_path / "out" / "lr").rglob("*.png"))) == len(cases) == 16
    for case in cases:
        written = tmp_path / "out" / "lr" / f"{case.image.removesuffix('.png')}_{case.kernel_index}.png"
        np.testing.assert_array_equal(read_image(written).rgb, case.lr)


@pytest.mark.parametrize("options", [("--protocol", "irregular"), ("--protocol", "random"), ("--sigma", "2")])
def test_the_seed_decides(data, tmp_path, options):
    for out, seed in (("a", "1"), ("b", "1"), ("c", "2")):
        assert degrade(data, tmp_path / out, *options, "--noise", "5", "--seed", seed) == 0
    assert files(tmp_path / "a") == files(tmp_path / "b") != files(tmp_path / "c")


def test_broken_files_are_reported_and_the_rest_is_done(data, tmp_path, capsys):
    (data / "broken.png").write_bytes(b"no image")
    assert degrade(data, tmp_path / "out", "--protocol", "irregular") == 1
    assert "broken.png" in capsys.readouterr().err
    assert set(files(tmp_path / "out" / "lr")) == {"a.png", "deep/b.png"}


@pytest.mark.parametrize(("options", "message"), [
    (("--sigma", "0"), "--sigma"), (("--sigma", "nan"), "--sigma"), (("--noise", "-1"), "--noise"),
    (("--noise", "inf"), "--noise")])
def test_impossible_options(data, tmp_path, capsys, options, message):
    assert degrade(data, tmp_path / "out", *options) == 2
    assert message in capsys.readouterr().err


def test_never_writes_over_its_input(tmp_path, data, capsys):
    data.rename(tmp_path / "hr")
    before = files(tmp_path / "hr")
    assert degrade(tmp_path / "hr", tmp_path, "--save-hr") == 2
    assert "another folder" in capsys.readouterr().err
    assert files(tmp_path) == {f"hr/{name}": content for name, content in before.items()}


def test_two_images_of_one_name(data, tmp_path, capsys):
    write_image(data / "a.jpg", read_image(data / "a.png").rgb)
    assert degrade(data, tmp_path / "out") == 2
    assert "a.jpg" in capsys.readouterr().err


def test_no_images(tmp_path):
    (tmp_path / "empty").mkdir()
    assert degrade(tmp_path / "empty", tmp_path / "out") == 2

import numpy as np
import pytest

from dan_fast.cli import main
from dan_fast.image_files import read_image
from dan_fast.training.data import PatchDataset
from dan_fast.training.drawings import drawing


def test_draws_what_training_reads(tmp_path):
    assert main(["draw", "-o", str(tmp_path / "out"), "--count", "3", "--side", "64", "--seed", "7"]) == 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "drawing-000007.png", "drawing-000008.png", "drawing-000009.png"]
    assert np.array_equal(read_image(tmp_path / "out" / "drawing-000008.png").rgb, drawing(8, 64, 64))
    assert PatchDataset([tmp_path / "out"], 48)[0].shape == (3, 48, 48)


def test_a_second_call_draws_the_same(tmp_path):
    for _ in range(2):
        assert main(["draw", "-o", str(tmp_path), "--count", "1", "--side", "40"]) == 0
        assert np.array_equal(read_image(tmp_path / "drawing-000000.png").rgb, drawing(0, 40, 40))


@pytest.mark.parametrize("options", [["--side", "31"], ["--side", "5000"], ["--count", "0"], ["--seed", "-1"]])
def test_bad_numbers(tmp_path, options, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["draw", "-o", str(tmp_path / "out"), *options])
    assert ended.value.code == 2 and options[0] in capsys.readouterr().err and not (tmp_path / "out").exists()


def test_a_file_in_the_place_of_the_folder(tmp_path, capsys):
    (tmp_path / "out").write_bytes(b"mine")
    assert main(["draw", "-o", str(tmp_path / "out"), "--count", "1", "--side", "40"]) == 2
    assert "out" in capsys.readouterr().err and (tmp_path / "out").read_bytes() == b"mine"

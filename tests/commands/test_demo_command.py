from dan_fast.cli import main
from dan_fast.image_files import find_images


def test_demo_shows_every_sample(tmp_path, tiny_weights, capsys):
    assert main(["demo", "-o", str(tmp_path / "out"), "--weights", str(tiny_weights)]) == 0
    output = capsys.readouterr().out
    pictures = {path.name for path in find_images([tmp_path / "out"])}
    assert "demo.png" in pictures
    for name in ("dog", "grass", "path", "sumac", "waves"):
        assert name in output and {f"{name}_lr.png", f"{name}_x4.png", f"{name}_compare.png"} <= pictures


def test_demo_refuses_a_file_for_its_folder(tmp_path, tiny_weights, capsys):
    (tmp_path / "out").write_text("")
    assert main(["demo", "-o", str(tmp_path / "out"), "--weights", str(tiny_weights)]) == 2
    assert "out" in capsys.readouterr().err

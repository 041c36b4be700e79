import pytest

from dan_fast.errors import ImageError
from dan_fast.image_files import find_images


def test_find_images_walks_folders_sorted_and_skips_hidden_and_other_files(tmp_path):
    for name in ("b.PNG", "a.jpeg", "sub/c.TiF", "d.HEIC", "e.avif", "f.jfif", "g.heif", ".hidden.png", ".git/x.png",
                 "note.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    found = find_images([tmp_path, tmp_path / "a.jpeg", tmp_path / "note.txt"])
    assert [str(p.relative_to(tmp_path)) for p in found] == [
        "a.jpeg", "b.PNG", "d.HEIC", "e.avif", "f.jfif", "g.heif", "sub/c.TiF", "note.txt"]


def test_find_images_names_what_is_missing(tmp_path):
    with pytest.raises(ImageError, match="nowhere"):
        find_images([tmp_path / "nowhere"])
    with pytest.raises(ImageError, match="no image"):
        find_images([tmp_path])

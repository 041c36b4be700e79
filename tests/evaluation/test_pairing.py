"""Partners by name: what belongs together, and what must not."""

from pathlib import Path

import pytest

from dan_fast.evaluation.pairing import common_name, find_partners, name_below, split_by_name

LR, HR = Path("lr"), Path("hr")


def partners(low, sharp, scale=4):
    """The pairs of two folders' files as names, and the errors."""
    found = find_partners(HR, [HR / name for name in sharp], LR, [LR / name for name in low], scale)
    return {a.relative_to(HR).as_posix(): b.relative_to(LR).as_posix() for a, b in found.pairs}, found.errors


@pytest.mark.parametrize(("low", "sharp"), [
    ("a.png", "a.jpg"), ("0001x4.png", "0001.png"), ("babyx4.png", "baby.png"), ("a_x4.png", "a.png"),
    ("a_LR.png", "a_HR.png"), ("Canon_001_LR4.png", "Canon_001_HR.png"), ("a_lr_x4.png", "a.png"),
    ("a-lr.png", "a.png"), ("a_LRx4.png", "a_GT.png"), ("im_7.png", "img_7.png"),
    ("Canon_10_x1.png", "Canon_10_x4.png"), ("kernel_7.mat", "img_7.png"), ("deep/a_x4.png", "deep/a.png"),
    ("a b x4.png", "a b.png"), ("a.b_x4.png", "a.b.png")])
def test_partners(low, sharp):
    assert partners([low], [sharp]) == ({sharp: low}, {})


@pytest.mark.parametrize(("low", "sharp"), [
    ("a_x2.png", "a.png"), ("Canon_001_LR2.png", "Canon_001_HR.png"), ("b.png", "a.png"), ("a_1.png", "a_10.png"),
    ("deep/a.png", "a.png"), ("A.png", "a.png"), ("_x4.png", "x4.png")])
def test_no_partners_at_scale_4(low, sharp):
    found, errors = partners([low], [sharp])
    assert not found
    assert list(errors) == sorted([HR / sharp, LR / low])
    assert all(str(error).startswith(f"{path}: has no partner in") for path, error in errors.items())


def test_without_a_scale_results_of_any_size_are_known():
    for result in ("a_x2", "a_x4", "a_x2.5", "a_x2160", "a_3840x", "a_3840x2160", "a_out", "a_SR"):
        assert partners([f"{result}.png"], ["a.png"], None)[0] == {"a.png": f"{result}.png"}, result


def test_the_same_name_comes_first():
    assert partners(["a.png", "a_x4.png"], ["a.png"])[0] == {"a.png": "a.png"}
    assert partners(["matrix4.png", "matri.png"], ["matrix4.png", "matri.png"])[0] == {
        "matrix4.png": "matrix4.png", "matri.png": "matri.png"}


def test_parts_of_names_that_look_like_endings_stay():
    """Foxes are no scales, neither beside each other nor alone."""
    names = ["fox1", "fox2", "index4", "index1"]
    assert partners([f"{name}_x4.png" for name in names], [f"{name}.png" for name in names], None) == (
        {f"{name}.png": f"{name}_x4.png" for name in names}, {})
    assert partners([f"{name}x4.png" for name in names], [f"{name}.png" for name in names])[0] == {
        f"{name}.png": f"{name}x4.png" for name in names}
    assert not partners(["fox2_x4.png"], ["fox1.png"], None)[0] and not partners(["index4.png"], ["index1.png"])[0]


def test_where_several_could_be_partners_none_is():
    found, errors = partners(["a_x4.png", "a_lr.png", "b.png"], ["a.png", "b.png"])
    assert found == {"b.png": "b.png"}
    assert list(errors) == [HR / "a.png", LR / "a_lr.png", LR / "a_x4.png"]
    assert str(errors[HR / "a.png"]).startswith(
        f"{HR / 'a.png'}: may belong to several of {LR / 'a_lr.png'}, {LR / 'a_x4.png'}: ")


def test_a_name_never_becomes_empty():
    assert common_name("x4", 4) == "x4" and common_name("_LR", 4) == "_LR"


def test_one_folder_is_split_as_realsr_names_its_images():
    images = [Path(name) for name in ("Canon_001_HR.png", "Canon_001_LR4.png", "colr4.png", "b_lr.png", "b.png")]
    low, sharp = split_by_name(images)
    assert [path.name for path in low] == ["Canon_001_LR4.png", "b_lr.png"]
    assert [path.name for path in sharp] == ["Canon_001_HR.png", "colr4.png", "b.png"]


def test_a_file_in_the_place_of_a_folder_keeps_its_name():
    assert name_below(Path("in/deep/a.png"), Path("in")) == "deep/a.png"
    assert name_below(Path("in/a.png"), Path("in/a.png")) == "a.png"

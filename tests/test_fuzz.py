"""A few broken files, of which ``make fuzz`` reads thousands; and whether fuzzing notices failures."""

import pytest
from fuzz.run import fuzz


@pytest.mark.parametrize(("kind", "count"), [("images", 400), ("checkpoints", 60), ("kernels", 200), ("packs", 100)])
def test_broken_files_are_read_or_refused_in_one_line(kind, count):
    if kind == "kernels":
        pytest.importorskip("scipy")
        pytest.importorskip("h5py")
    assert [f"{failure.name} {failure.number}: {failure.why}" for failure in fuzz(kind, 1, count) if failure] == []


def test_fuzzing_notices_what_goes_wrong(tmp_path):
    failures = [failure for failure in fuzz("faulty", 0, 12) if failure]
    why = " ".join(failure.why for failure in failures)
    assert 0 < len(failures) < 12 and len({failure.number for failure in failures}) == len(failures)
    assert "RuntimeError: of its own" in why and "from deep inside" in why and "a crash" in why
    path = failures[0].save(tmp_path / "new")
    assert path.read_bytes() == failures[0].content and str(failures[0].number) in path.name

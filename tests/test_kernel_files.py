import numpy as np
import pytest

from dan_fast.errors import DanFastError
from dan_fast.kernel_files import read_kernels

KERNELS = [np.random.default_rng(size).random((size, size)) for size in (5, 4, 7)]


def expected(kernels=KERNELS):
    """Centre (size // 2) on centre, sum 1."""
    out = np.zeros((len(kernels), 7, 7))
    for place, kernel in zip(out, kernels, strict=True):
        first = 3 - len(kernel) // 2
        place[first:first + len(kernel), first:first + len(kernel)] = kernel / kernel.sum()
    return out


def test_numpy(tmp_path):
    np.save(tmp_path / "one.npy", 3 * KERNELS[2])
    np.save(tmp_path / "two.npy", np.stack([KERNELS[2], KERNELS[2].T]))
    assert np.allclose(read_kernels(tmp_path / "one.npy"), expected(KERNELS[2:]))
    assert np.allclose(read_kernels(tmp_path / "two.npy"), expected([KERNELS[2], KERNELS[2].T]))
    assert read_kernels(tmp_path / "two.npy").dtype == np.float32


def test_matlab_5(tmp_path):
    io = pytest.importorskip("scipy.io")
    cells = np.empty((1, 3), object)
    cells[0, :] = KERNELS
    io.savemat(tmp_path / "cells.mat", {"kernels": cells})
    io.savemat(tmp_path / "matrix.mat", {"kernels": KERNELS[2]})
    assert np.allclose(read_kernels(tmp_path / "cells.mat"), expected())
    assert np.allclose(read_kernels(tmp_path / "matrix.mat"), expected(KERNELS[2:]))


def test_matlab_73_is_transposed(tmp_path):
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "cells.mat", "w", userblock_size=512) as file:
        references = [file.create_dataset(f"#refs#/{i}", data=kernel.T).ref for i, kernel in enumerate(KERNELS)]
        file.create_dataset("kernels", data=np.array(references, h5py.ref_dtype)[:, None])
    assert np.allclose(read_kernels(tmp_path / "cells.mat"), expected())


def test_the_files_at_hand(shared):
    pytest.importorskip("scipy")
    pytest.importorskip("h5py")
    folder = shared / "data" / "kernels" / "KAIR"
    for name, shape in (("kernels_12.mat", (12, 25, 25)), ("Levin09.mat", (8, 27, 27))):
        kernels = read_kernels(folder / name)
        assert kernels.shape == shape and np.allclose(kernels.sum((1, 2)), 1, atol=1e-5)


@pytest.mark.parametrize(("array", "message"), [
    (np.zeros((3, 3)), "positive sum"), (np.full((3, 3), np.nan), "finite"), (np.ones((3, 4)), r"\(3, 4\)"),
    (np.ones(9), r"expected \(k, k\)"), (np.ones((0, 3, 3)), "no kernel"), (np.ones((3, 3), complex), "complex")])
def test_refuses_what_is_no_kernel(tmp_path, array, message):
    np.save(tmp_path / "k.npy", array)
    with pytest.raises(DanFastError, match=message):
        read_kernels(tmp_path / "k.npy")


def test_refuses_other_files_and_runs_nothing(tmp_path):
    io = pytest.importorskip("scipy.io")

    class Runs:
        def __reduce__(self):
            return (open, (str(tmp_path / "was-run"), "w"))

    np.save(tmp_path / "pickled.npy", np.array([[Runs()]], object), allow_pickle=True)
    io.savemat(tmp_path / "other.mat", {"blurs": KERNELS[0]})
    (tmp_path / "broken.mat").write_bytes(b"x" * 200)
    (tmp_path / "kernel.txt").write_text("1")
    (tmp_path / "empty.npy").write_bytes(b"")
    for name, message in (("pickled.npy", "cannot be read"), ("empty.npy", "cannot be read"),
                          ("other.mat", "called kernels"), ("kernel.txt", ".npy"), ("broken.mat", "cannot be read"),
                          ("missing.npy", "missing.npy")):
        with pytest.raises(DanFastError, match=message):
            read_kernels(tmp_path / name)
    assert not (tmp_path / "was-run").exists()

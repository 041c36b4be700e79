import struct
import zlib

import numpy as np
import pytest

from dan_fast.blur_kernels.files import read_kernels
from dan_fast.errors import DanFastError

KERNELS = [np.random.default_rng(size).random((size, size)) for size in (5, 4, 7)]


def expected(kernels=KERNELS):
    """The kernels with sum 1, padded to 7x7, centre (size // 2) on centre."""
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
    (tmp_path / "one.npy").rename(tmp_path / "ONE.NPY")
    assert np.allclose(read_kernels(tmp_path / "ONE.NPY"), expected(KERNELS[2:]))


def test_matlab_5(tmp_path):
    io = pytest.importorskip("scipy.io")
    cells = np.empty((1, 3), object)
    cells[0, :] = KERNELS
    io.savemat(tmp_path / "cells.mat", {"kernels": cells})
    io.savemat(tmp_path / "matrix.mat", {"kernels": KERNELS[2]})
    assert np.allclose(read_kernels(tmp_path / "cells.mat"), expected())
    assert np.allclose(read_kernels(tmp_path / "matrix.mat"), expected(KERNELS[2:]))


@pytest.mark.parametrize("name", ["Kernel", "ker"])
def test_names_of_kernelgan(tmp_path, name):
    io = pytest.importorskip("scipy.io")
    h5py = pytest.importorskip("h5py")
    io.savemat(tmp_path / "old.mat", {"other": np.eye(3), name: KERNELS[2]})
    with h5py.File(tmp_path / "new.mat", "w", userblock_size=512) as file:
        file.create_dataset(name, data=KERNELS[2].T)
    assert np.allclose(read_kernels(tmp_path / "old.mat"), expected(KERNELS[2:]))
    assert np.allclose(read_kernels(tmp_path / "new.mat"), expected(KERNELS[2:]))


def test_matlab_73_is_transposed(tmp_path):
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "cells.mat", "w", userblock_size=512) as file:
        references = [file.create_dataset(f"#refs#/{i}", data=kernel.T).ref for i, kernel in enumerate(KERNELS)]
        file.create_dataset("kernels", data=np.array(references, h5py.ref_dtype)[:, None])
    assert np.allclose(read_kernels(tmp_path / "cells.mat"), expected())


def element(kind, content):
    return struct.pack(">II", kind, len(content)) + content + bytes(-len(content) % 8)


def matrix(array, matrix_class=6, flags=0, name=b"kernels", shape=None):
    """A big-endian matrix of MATLAB 5. A name of up to four letters, such as "k", is stored within its tag."""
    short = struct.pack(">HH4s", len(name), 1, name) if len(name) <= 4 else element(1, name)
    content = array if isinstance(array, bytes) else element(9, array.astype(">f8").tobytes("F"))
    sides = shape or np.shape(array)
    return element(14, element(6, struct.pack(">II", flags << 8 | matrix_class, 0))
                   + element(5, struct.pack(f">{len(sides)}i", *sides)) + short + content)


HEADER = b"MATLAB 5.0 MAT-file".ljust(124) + b"\1\0MI"


def test_matlab_5_in_the_other_byte_order(tmp_path):
    cells = matrix(b"".join(matrix(kernel, name=b"") for kernel in KERNELS), matrix_class=1, shape=(1, 3))
    (tmp_path / "cells.mat").write_bytes(HEADER + matrix(np.ones((9, 9)), name=b"k") + cells)
    (tmp_path / "matrix.mat").write_bytes(HEADER + element(14, b"") + matrix(KERNELS[2]))
    assert np.allclose(read_kernels(tmp_path / "cells.mat"), expected())
    assert np.allclose(read_kernels(tmp_path / "matrix.mat"), expected(KERNELS[2:]))


def deflated(content):
    content = zlib.compress(content, 9)
    return struct.pack(">II", 15, len(content)) + content


@pytest.mark.parametrize(("content", "message"), [
    (deflated(bytes(300_000_000)), "more than 256 MB"),
    (matrix(b"", matrix_class=1, shape=(1, 2**30)), "no kernel"),
    (matrix(KERNELS[0], shape=(2**15, 2**15)), "32768x32768 numbers holds 25"),
    (matrix(KERNELS[0], shape=(-5, -5)), "cannot be read"),
    (matrix(KERNELS[0], flags=8), "real numbers"),
    (matrix(element(14, b"") * 3, matrix_class=1), "cannot be read"),
    (matrix(element(77, bytes(32)), shape=(2, 2)), "cannot be read"),
    (matrix(KERNELS[0])[:-100], "cannot be read"),
    (matrix(b"".join(matrix(np.ones((1, 1)), name=b"") for _ in range(10_001)), matrix_class=1, shape=(1, 10_001)),
     "10001 kernels .* are too many"),
    (matrix(b"".join(matrix(np.ones((s, s)), name=b"") for s in [3] * 200 + [601]), matrix_class=1, shape=(1, 201)),
     "201 kernels .* are too many"),
    (matrix(np.full((3, 3), 1e308)), "has the sum inf"),
], ids=range(11))
def test_refuses_matlab_files_that_promise_too_much_or_are_damaged(tmp_path, content, message):
    (tmp_path / "k.mat").write_bytes(HEADER + content)
    with pytest.raises(DanFastError, match=message) as error:
        read_kernels(tmp_path / "k.mat")
    assert str(error.value).isprintable()


def test_refuses_matlab_73_files_that_promise_too_much(tmp_path):
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "one.mat", "w", userblock_size=512) as file:
        file.create_dataset("kernels", (100_000, 100_000), "f8", chunks=(100, 100))
    with h5py.File(tmp_path / "often.mat", "w", userblock_size=512) as file:
        large = file.create_dataset("#refs#/0", (4000, 4000), "f8", chunks=(100, 100)).ref
        file.create_dataset("kernels", data=np.array([large] * 50, h5py.ref_dtype)[:, None])
    for name in ("one.mat", "often.mat"):
        with pytest.raises(DanFastError, match=f"{name}: holds more than 256 MB"):
            read_kernels(tmp_path / name)


def npy(header):
    header = header.ljust(117) + "\n"
    return b"\x93NUMPY\1\0" + struct.pack("<H", len(header)) + header.encode() + bytes(200)


@pytest.mark.parametrize(("header", "message"), [
    ("{'descr': '<f8', 'fortran_order': False, 'shape': (100000, 100000)}", "cannot be read"),
    ("{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000, 0, 0)}", "k.npy"),
    ("{'descr': '<f8', 'fortran_order': False, 'shape': (-5, 5)}", "cannot be read"),
    ("(" * 100, "cannot be read"), ("\0", "cannot be read")])
def test_refuses_npy_files_that_promise_too_much(tmp_path, header, message):
    (tmp_path / "k.npy").write_bytes(npy(header))
    with pytest.raises(DanFastError, match=message) as error:
        read_kernels(tmp_path / "k.npy")
    assert str(error.value).isprintable()


def test_refuses_an_archive_that_is_called_npy(tmp_path):
    np.savez(tmp_path / "k.npz", KERNELS[0])
    (tmp_path / "k.npz").rename(tmp_path / "k.npy")
    with pytest.raises(DanFastError, match=r"k\.npy.*archive"):
        read_kernels(tmp_path / "k.npy")


def test_published_kernel_files(shared):
    pytest.importorskip("h5py")
    folder = shared / "data" / "kernels" / "KAIR"
    for name, shape in (("kernels_12.mat", (12, 25, 25)), ("Levin09.mat", (8, 27, 27))):
        kernels = read_kernels(folder / name)
        assert kernels.shape == shape and np.allclose(kernels.sum((1, 2)), 1, atol=1e-5)


@pytest.mark.parametrize(("array", "message"), [
    (np.zeros((3, 3)), "positive sum"), (np.full((3, 3), np.nan), "finite"), (np.ones((3, 4)), r"\(3, 4\)"),
    (np.ones(9), r"expected \(k, k\)"), (np.ones((0, 3, 3)), "no kernel"), (np.ones((3, 3), complex), "complex")])
def test_refuses_what_is_not_a_kernel(tmp_path, array, message):
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

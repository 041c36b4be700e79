"""The two import packages belong together."""

import subprocess
import sys

import dan_fast_kernels

import dan_fast


def test_both_packages_have_the_same_version():
    assert dan_fast.__version__ == dan_fast_kernels.__version__


def test_kernels_of_another_version_are_refused():
    code = "import dan_fast_kernels; dan_fast_kernels.__version__ = '0.0.1'; import dan_fast"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode != 0 and "pip install . again" in result.stderr


def test_everything_promised_is_there():
    for name in dan_fast.__all__:
        assert getattr(dan_fast, name) is not None
    assert callable(dan_fast.ops.blur_downsample) and callable(dan_fast.metrics.psnr)
    for name in ("gaussian_kernels", "blur", "bicubic_resize", "PCAEncoder"):
        assert hasattr(dan_fast.degradation, name)

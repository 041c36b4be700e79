"""The degradation of a sharp image to the low-resolution one: blur, downsampling, noise, rounding to 8 bits.

Random degradations are in ``pipeline``, those by a known kernel in ``degrade``.
"""

from ..blur_kernels.gaussian import dirac_kernel, gaussian_kernels, random_irregular_kernels, random_isotropic_kernels
from ..blur_kernels.pca import PCAEncoder
from ..ops.blur import blur
from ..ops.resize import bicubic_resize

__all__ = [
    "PCAEncoder",
    "bicubic_resize",
    "blur",
    "dirac_kernel",
    "gaussian_kernels",
    "random_irregular_kernels",
    "random_isotropic_kernels",
]

"""How a sharp image became the given one: blur kernels, blur, downsampling, and the kernel's code.

The whole pipeline is ``dan_fast.degradation.pipeline``.
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

"""How a sharp image became the given one: blur kernels, blur, downsampling, and the kernel's code.

The whole pipeline is ``dan_fast.degradation.pipeline``.
"""

from .blur import blur
from .gaussian import dirac_kernel, gaussian_kernels, random_irregular_kernels, random_isotropic_kernels
from .pca import PCAEncoder
from .resize import bicubic_resize

__all__ = [
    "PCAEncoder",
    "bicubic_resize",
    "blur",
    "dirac_kernel",
    "gaussian_kernels",
    "random_irregular_kernels",
    "random_isotropic_kernels",
]

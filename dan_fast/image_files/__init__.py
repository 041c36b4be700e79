"""Image files of any format: found, read and written, and refused if they promise more than they hold.

Pixels become RGB of 8 or 16 bits, upright.
"""

from .finding import find_images
from .photo import Photo, to_8_bits
from .reading import JpegBytes, read_image
from .writing import check_writable, write_image

__all__ = ["JpegBytes", "Photo", "check_writable", "find_images", "read_image", "to_8_bits", "write_image"]

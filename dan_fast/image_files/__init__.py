"""Image files of any format: found, read and written, and refused if they promise more than they hold.

Pixels become RGB of 8 or 16 bits, upright.
"""

from .finding import find_images
from .metadata import Metadata, read_note
from .photo import Photo, to_8_bits
from .reading import ImageBytes, JpegBytes, read_image
from .writing import check_writable, encode_image, write_image

__all__ = ["ImageBytes", "JpegBytes", "Metadata", "Photo", "check_writable", "encode_image", "find_images",
           "read_image", "read_note", "to_8_bits", "write_image"]

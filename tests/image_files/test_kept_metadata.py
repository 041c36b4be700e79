"""EXIF, XMP and resolution of a photo are in its result, whatever the format; an independent reader says so."""

import io

import numpy as np
import pytest
import tifffile
from PIL import Image, PngImagePlugin
from support.exiftool import exiftool, tags, tags_of
from support.image_files import noise, save

from dan_fast.image_files import ImageBytes, Metadata, encode_image, read_image, read_note, write_image
from dan_fast.image_files.video_stills import avif_is_supported

SUFFIXES = ["png", "jpg", "webp", "tif", pytest.param("avif", marks=pytest.mark.skipif(
    not avif_is_supported(), reason="this Pillow has no AVIF"))]
WRITTEN = [*((suffix, np.uint8) for suffix in ("png", "jpg", "webp", "tif")), ("png", np.uint16), ("tif", np.uint16),
           *([("avif", np.uint8)] if avif_is_supported() else [])]
PNG_DPI = 0.0254 / 2  # PNG holds whole pixels per metre
KEPT = ("IFD0", "ExifIFD", "GPS", "InteropIFD", "XMP-dc", "XMP-tiff", "XMP-exif")
# What a result cannot keep: the size and orientation of the photo, and tags of pixels.
CORRECTED = {"IFD0:Orientation": 1, "XMP-tiff:Orientation": 1, "ExifIFD:ExifImageWidth": 12,
             "ExifIFD:ExifImageHeight": 8, "XMP-exif:ExifImageWidth": 12, "XMP-tiff:ImageWidth": 12}
OF_PIXELS = {"IFD0:YCbCrPositioning"}


def camera_photo(path, order="MM"):
    """A photo of 6x4 pixels, stored as 4x6, with all that cameras and their users write."""
    save(path.with_name("thumbnail.jpg"), noise(20, 30, 3))
    save(path, noise(4, 6, 3), dpi=(300, 300))
    exiftool(
        "-q", "-overwrite_original", f"-ExifByteOrder={order}", "-Orientation#=6", "-Make=Maker",
        "-Model=A camera", "-Software=1.0", "-ImageDescription=Bäume", "-Artist=Jo", "-Copyright=© Jo",
        "-DateTimeOriginal=2020:01:02 03:04:05", "-ExposureTime=1/250", "-FNumber=2.8", "-ISO=200",
        "-ExposureCompensation=-1/3", "-LensInfo=24 70 2.8 2.8", "-UserComment=Grüße ✓ 你好", "-SubjectArea=1 2 3 4",
        "-ExifImageWidth=6", "-ExifImageHeight=4", "-InteropIndex=R98", "-GPSLatitude=48.137", "-GPSLatitudeRef=N",
        "-GPSLongitude=11.575", "-GPSLongitudeRef=W", "-GPSAltitude=519.5", "-GPSTimeStamp=10:11:12.5",
        f"-ThumbnailImage<={path.with_name('thumbnail.jpg')}", "-XMP-dc:Creator=Jo", "-XMP-dc:Title=Grüße",
        "-XMP-tiff:Orientation#=6", "-XMP-exif:ExifImageWidth=6", "-XMP-tiff:ImageWidth=6", path)
    return path


def expected(path):
    """What a result of 8x12 pixels keeps of the photo at ``path``."""
    found = tags(path, *KEPT)
    assert len(found) > 30 and any(name.startswith("GPS:") for name in found)
    return {name: CORRECTED.get(name, value) for name, value in found.items()}


@pytest.mark.parametrize("order", ["II", "MM"])
def test_every_tag_is_kept(tmp_path, order):
    photo = read_image(camera_photo(tmp_path / "a.jpg", order))
    assert photo.rgb.shape == (6, 4, 3) and photo.notes == () and photo.metadata.exif.startswith(order.encode())
    wanted = expected(tmp_path / "a.jpg")
    paths = []
    for suffix, dtype in WRITTEN:
        for kind in ("grey", "rgb", "alpha"):
            pixels, alpha = noise(8, 12, 3, dtype=dtype), noise(8, 12, dtype=dtype) if kind == "alpha" else None
            paths.append(tmp_path / f"{kind}-{dtype.__name__}.{suffix}")
            notes = write_image(paths[-1], pixels, alpha, grey=kind == "grey", metadata=photo.metadata)
            assert all("transparency" in note for note in notes)
    for path, found in zip(paths, tags_of(paths), strict=True):
        lost = {name: (value, found.get(name)) for name, value in wanted.items() if found.get(name) != value}
        # Upright is what a missing orientation means.
        assert set(lost) <= {"IFD0:Orientation", *OF_PIXELS}, path.name
        assert lost.get("IFD0:Orientation", (1, None)) == (1, None)
        assert not any("Thumbnail" in name or name.startswith("ExifTool:Warning") for name in found), path.name
        again = read_image(path)
        assert again.notes == () and again.metadata.dpi == pytest.approx((300, 300), abs=PNG_DPI)
        assert again.metadata.xmp == photo.metadata.for_image(8, 12).xmp


def test_results_are_upright_for_every_viewer(tmp_path):
    results, whole = [], camera_photo(tmp_path / "a.jpg").read_bytes()
    exif, xmp = b"\x01\x12\0\x03\0\0\0\x01\0%c", b"<tiff:Orientation>%d<"
    assert whole.count(exif % 6) == whole.count(xmp % 6) == 1
    for orientation in range(1, 9):
        turned = whole.replace(exif % 6, exif % orientation).replace(xmp % 6, xmp % orientation)
        photo = read_image(ImageBytes(turned, "a photo"))
        assert photo.rgb.shape == ((4, 6, 3) if orientation < 5 else (6, 4, 3))
        results.append(tmp_path / f"{orientation}.png")
        write_image(results[-1], photo.rgb, metadata=photo.metadata)
        assert np.array_equal(read_image(results[-1]).rgb, photo.rgb)
    assert [(found["IFD0:Orientation"], found["XMP-tiff:Orientation"]) for found in tags_of(results)] == [(1, 1)] * 8


@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize("suffix", ["tif", "jpg"])
def test_a_tiff_gives_what_describes_it_and_not_how_it_is_stored(tmp_path, suffix, big):
    with tifffile.TiffWriter(tmp_path / "a.tif", bigtiff=big) as writer:
        writer.write(noise(32, 32, 3, dtype=np.uint16), photometric="rgb", tile=(16, 16), compression="zlib",
                     predictor=True, description="trees", software="a program", metadata=None, resolution=(200, 100),
                     resolutionunit="INCH", datetime="2020:01:02 03:04:05", iccprofile=bytes(16) + b"RGB " + bytes(9),
                     extratags=[(315, 2, 3, "Jo", True), (37724, 7, 4, b"abcd", True)])
    photo = read_image(tmp_path / "a.tif")
    assert photo.metadata.dpi == (200, 100) and photo.notes == ()
    path = tmp_path / f"b.{suffix}"
    write_image(path, noise(8, 12, 3), metadata=photo.metadata)
    found = tags(path, "IFD0", "ExifTool")
    assert [found[f"IFD0:{name}"] for name in ("ImageDescription", "Software", "Artist", "ModifyDate", "XResolution",
            "YResolution")] == ["trees", "a program", "Jo", "2020:01:02 03:04:05", 200, 100]
    assert not {f"IFD0:{name}" for name in ("TileWidth", "SampleFormat", "ImageSourceData")} & found.keys()
    assert not any("Warning" in name for name in found)
    if suffix == "jpg":
        assert not {"IFD0:Compression", "IFD0:BitsPerSample", "IFD0:ImageWidth"} & found.keys()
    assert read_image(path).rgb.shape == (8, 12, 3)


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("metadata", [Metadata(), Metadata(
    exif=b"MM\0*\0\0\0\x08" b"\0\x01" b"\x01\x0f\0\x02\0\0\0\x04abc\0" b"\0\0\0\0")])
def test_a_note_is_read_back(tmp_path, suffix, dtype, metadata):
    path = tmp_path / f"a.{suffix}"
    write_image(path, noise(8, 12, 3, dtype=dtype), metadata=metadata.noted("dan_fast 1: abc"))
    assert read_note(path) == "dan_fast 1: abc"
    write_image(path, noise(8, 12, 3, dtype=dtype), metadata=metadata)
    assert read_note(path) is None
    write_image(path, noise(8, 12, 3, dtype=dtype), metadata=metadata.noted("a").noted("b ✓"))
    assert read_note(path) == "b ?"


def test_no_note_where_there_is_no_image(tmp_path):
    (tmp_path / "a.png").write_text("hello")
    (tmp_path / "b.png").write_bytes(encode_image(".png", noise(4, 4, 3), metadata=Metadata().noted("a"))[0][:40])
    assert [read_note(tmp_path / name) for name in ("a.png", "b.png", "nowhere.png", ".")] == [None] * 4


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_the_resolution_alone_is_kept(tmp_path, suffix):
    write_image(tmp_path / f"a.{suffix}", noise(4, 6, 3), metadata=Metadata(dpi=(300, 150)))
    assert read_image(tmp_path / f"a.{suffix}").metadata.dpi == pytest.approx((300, 150), abs=PNG_DPI)


def test_exif_that_a_png_holds_as_text_is_kept(tmp_path):
    """ImageMagick's way before PNG had a chunk for it."""
    exif = Image.Exif()
    exif[0x010F], exif[0x0112] = "a maker", 6
    data = exif.tobytes()
    info = PngImagePlugin.PngInfo()
    info.add_text("Raw profile type exif", f"\nexif\n{len(data):8}\n{data.hex()}\n", zip=True)
    photo = read_image(save(tmp_path / "a.png", noise(4, 6, 3), pnginfo=info))
    assert photo.rgb.shape == (6, 4, 3) and b"a maker\0" in photo.metadata.exif and photo.notes == ()


def test_no_resolution_is_made_up(tmp_path):
    exif = Image.Exif()
    exif[0x010F] = "a maker"
    for suffix in ("jpg", "png", "webp", "tif"):
        assert read_image(save(tmp_path / f"a.{suffix}", noise(4, 6, 3), exif=exif)).metadata.dpi is None


def test_a_jpeg_keeps_as_much_as_it_holds(tmp_path):
    exif = Image.Exif()
    exif[0x010F], exif[0x010E], exif[0x013B] = "a maker", "x" * 60_000, "y" * 30_000
    metadata = Metadata(exif.tobytes().removeprefix(b"Exif\0\0"), b"x" * 70_000, (1e5, 1e5)).noted("a note")
    notes = write_image(tmp_path / "a.jpg", noise(4, 6, 3), metadata=metadata)
    assert [part in note for part, note in zip(("its 1 largest", "XMP", "inch"), notes, strict=True)] == [True] * 3
    kept = Image.open(tmp_path / "a.jpg").getexif()
    assert (kept[0x010F], kept[0x013B], 0x010E in kept) == ("a maker", "y" * 30_000, False)
    assert read_note(tmp_path / "a.jpg") == "a note"
    assert write_image(tmp_path / "a.png", noise(4, 6, 3), metadata=metadata) == ()
    again = read_image(tmp_path / "a.png").metadata
    assert (again.exif, again.xmp) == (metadata.exif, metadata.xmp)


def test_xmp_keeps_all_but_size_orientation_and_thumbnails(tmp_path):
    xmp = (b'<x tiff:Orientation = "6" exif:PixelXDimension=\'6\' mytiff:ImageWidth="6"><tiff:ImageLength>4'
           b"</tiff:ImageLength>%s<a>6</a></x>")
    write_image(tmp_path / "a.png", noise(4, 6, 3), metadata=Metadata(
        xmp=xmp % b"<xmp:Thumbnails><b>abc</b></xmp:Thumbnails>"))
    assert read_image(tmp_path / "a.png").metadata.for_image(40, 60).xmp == (
        b'<x tiff:Orientation = "1" exif:PixelXDimension=\'60\' mytiff:ImageWidth="6"><tiff:ImageLength>40'
        b"</tiff:ImageLength><a>6</a></x>")


def test_metadata_without_an_image_size_stays_the_same():
    exif = Image.Exif()
    exif[0x010F] = "a maker"
    metadata = Metadata(exif.tobytes().removeprefix(b"Exif\0\0"), b"<x/>", (72, 72))
    changed = metadata.for_image(100, 200)
    data, _ = encode_image(".jpg", noise(4, 4, 3), metadata=changed)
    assert Image.open(io.BytesIO(data)).getexif() == {271: "a maker"}
    assert (changed.xmp, changed.dpi) == (metadata.xmp, metadata.dpi)

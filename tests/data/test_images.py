"""Files in, exact pixels out, and a named error for each thing that is wrong."""

import struct
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image, ImageOps

from pals_jax.data.errors import DataError
from pals_jax.data.images import image_size, read_image, read_mask

RGB = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
INDEX = np.array([[0, 1, 2, 3], [3, 2, 1, 0], [0, 0, 1, 1]], np.uint8)


def save(path, pixels, mode=None, **options):
    image = Image.fromarray(pixels)
    (image.convert(mode) if mode else image).save(path, **options)
    return path


def orientation(value):
    exif = Image.Exif()
    exif[0x0112] = value
    return exif


def oriented_tiff(path, pixels, mode, value, compression):
    """A TIFF whose stored pixels an orientation says to turn."""
    if mode != "RGB;16":
        image = Image.fromarray(pixels).convert(mode)
        image.save(path, exif=orientation(value), compression=compression)
        return path
    # Pillow writes no 16-bit RGB, and OpenCV no orientation.
    flags = [cv2.IMWRITE_TIFF_COMPRESSION, {"raw": 1, "tiff_lzw": 5}[compression]]
    encoded = cv2.imencode(".tiff", pixels[..., ::-1], flags)[1].tobytes()
    (start,) = struct.unpack("<I", encoded[4:8])
    (count,) = struct.unpack("<H", encoded[start : start + 2])
    entries = [encoded[start + 2 + 12 * i :][:12] for i in range(count)]
    entries.append(struct.pack("<HHIHH", 0x0112, 3, 1, value, 0))
    entries.sort(key=lambda entry: struct.unpack("<H", entry[:2]))
    directory = struct.pack("<H", len(entries)) + b"".join(entries) + bytes(4)
    encoded += bytes(len(encoded) % 2)
    path.write_bytes(encoded[:4] + struct.pack("<I", len(encoded)) + encoded[8:] + directory)
    return path


def write_grey_png(path, samples, bits):
    """A greyscale PNG of 1, 2 or 4 bits a sample, which Pillow cannot write itself."""
    rows = b""
    for row in samples:
        digits = "".join(f"{value:0{bits}b}" for value in row)
        digits += "0" * (-len(digits) % 8)
        rows += b"\0" + int(digits, 2).to_bytes(len(digits) // 8, "big")

    def chunk(kind, data):
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    height, width = samples.shape
    header = struct.pack(">IIBBBBB", width, height, bits, 0, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + body)
    return path


# Orientation -> how the stored pixels stand upright, in other words than the reader's.
UPRIGHT = {
    1: lambda a: a,
    2: np.fliplr,
    3: lambda a: np.rot90(a, 2),
    4: np.flipud,
    5: lambda a: np.rot90(np.fliplr(a)),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: np.rot90(np.fliplr(a), -1),
    8: np.rot90,
}


# --- images ----------------------------------------------------------------------------------


def test_rgb_png_is_returned_as_stored(tmp_path):
    pixels = read_image(save(tmp_path / "a.png", RGB))
    np.testing.assert_array_equal(pixels, RGB)
    assert pixels.dtype == np.uint8


@pytest.mark.parametrize("mode", ["L", "1", "LA", "P"])
def test_every_channel_of_a_grey_image_is_the_grey(tmp_path, mode):
    grey = np.where(RGB[..., 0] > 127, 255, 0).astype(np.uint8)  # what mode 1 can hold
    pixels = read_image(save(tmp_path / "a.png", grey, mode))
    np.testing.assert_array_equal(pixels, np.repeat(grey[..., None], 3, axis=-1))


def test_alpha_is_dropped_and_not_blended(tmp_path):
    rgba = np.dstack([RGB, np.full(RGB.shape[:2], 10, np.uint8)])
    np.testing.assert_array_equal(read_image(save(tmp_path / "a.png", rgba)), RGB)


def test_cmyk_jpeg(tmp_path):
    red = np.broadcast_to(np.uint8([255, 0, 0]), (16, 16, 3))
    pixels = read_image(save(tmp_path / "a.jpg", red, "CMYK", quality=100)).astype(int)
    assert np.abs(pixels - red).max() <= 3


def test_sixteen_bit_grey_is_rounded_not_truncated(tmp_path):
    grey = np.array([[0, 128, 129, 257], [385, 386, 65278, 65535]], np.uint16)
    pixels = read_image(save(tmp_path / "a.png", grey))
    expected = [[0, 0, 1, 1], [1, 2, 254, 255]]  # v / 257: 0.498, 0.502, 1, 1.498, 1.502, 253.999…
    np.testing.assert_array_equal(pixels, np.repeat(np.uint8(expected)[..., None], 3, axis=-1))


@pytest.mark.parametrize("extension", ["png", "tiff"])
def test_sixteen_bit_colour_is_rounded_not_truncated(tmp_path, extension):
    colour = np.random.default_rng(1).integers(0, 65536, (20, 30, 3)).astype(np.uint16)
    path = tmp_path / f"a.{extension}"
    cv2.imwrite(str(path), colour[..., ::-1])
    expected = np.rint(colour / 257).astype(np.uint8)
    assert (expected != colour >> 8).any()  # what truncation would give
    np.testing.assert_array_equal(read_image(path), expected)


@pytest.mark.parametrize("value", range(1, 9))
@pytest.mark.parametrize("extension", ["png", "jpg", "tiff"])
def test_exif_orientation_is_applied(tmp_path, value, extension):
    path = save(tmp_path / f"a.{extension}", RGB, exif=orientation(value))
    with Image.open(path) as image:
        expected = np.asarray(ImageOps.exif_transpose(image))
    pixels = read_image(path)
    np.testing.assert_array_equal(pixels, expected)
    assert pixels.shape[:2] == image_size(path) == ((7, 5) if value > 4 else (5, 7))


@pytest.mark.parametrize("value", range(1, 9))
@pytest.mark.parametrize("compression", ["raw", "tiff_lzw"])
@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "P", "CMYK", "I;16", "RGB;16"])
def test_a_tiff_is_turned_once(tmp_path, mode, compression, value):
    stored = RGB if mode in ("RGB", "RGBA", "CMYK", "RGB;16") else RGB[..., 0]
    samples = stored.astype(np.uint16) * 257 if mode.endswith(";16") else stored
    path = oriented_tiff(tmp_path / "a.tiff", samples, mode, value, compression)
    expected = stored if stored.ndim == 3 else np.repeat(stored[..., None], 3, axis=-1)
    pixels = read_image(path)
    np.testing.assert_array_equal(pixels, UPRIGHT[value](expected))
    assert pixels.shape[:2] == image_size(path)


def test_a_size_other_than_the_header_says_is_refused(tmp_path):
    # Pillow knows this way of telling the orientation, but not when it tells the size.
    xmp = b'<x:xmpmeta><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'
    path = save(tmp_path / "a.tiff", RGB, tiffinfo={700: xmp})
    with pytest.raises(DataError, match=r"a\.tiff: .*\(5, 7\).*\(7, 5\)"):
        read_image(path)


def test_orientation_6_turns_clockwise(tmp_path):
    stored = np.uint8([[10, 20, 30], [40, 50, 60]])
    path = save(tmp_path / "a.png", stored, exif=orientation(6))
    np.testing.assert_array_equal(read_image(path)[..., 0], [[40, 10], [50, 20], [60, 30]])


@pytest.mark.parametrize("name", ["a.jpg", "a.png"])
@pytest.mark.parametrize("kept", [0.0, 0.1, 0.5, 0.8])
def test_a_truncated_file_is_named(tmp_path, name, kept):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    path = save(tmp_path / name, noise)
    data = path.read_bytes()
    path.write_bytes(data[: int(kept * len(data))])
    with pytest.raises(DataError, match=rf"{name}: unreadable or truncated"):
        read_image(path)


def test_a_missing_file_is_named(tmp_path):
    for read in (read_image, image_size):
        with pytest.raises(DataError, match=r"a\.png: no such file"):
            read(tmp_path / "a.png")


def test_float_and_32_bit_images_are_refused(tmp_path):
    with pytest.raises(DataError, match="floating-point"):
        read_image(save(tmp_path / "a.tiff", RGB[..., 0].astype(np.float32)))
    for largest in (255, 70000):
        with pytest.raises(DataError, match="signed or 32-bit samples"):
            read_image(save(tmp_path / "b.tiff", np.int32([[0, largest]])))


def test_signed_16_bit_images_are_refused(tmp_path):
    path = save(tmp_path / "a.tiff", np.uint16([[0, 255]]), tiffinfo={339: 2})  # SampleFormat
    with Image.open(path) as image:
        assert image.mode == "I"
    with pytest.raises(DataError, match="signed or 32-bit samples"):
        read_image(path)


def test_a_sixteen_bit_pgm_is_no_32_bit_image(tmp_path):
    path = tmp_path / "a.pgm"
    path.write_bytes(b"P5 2 1 65535\n" + np.array([[129, 65535]], ">u2").tobytes())
    np.testing.assert_array_equal(read_image(path)[..., 0], [[1, 255]])


# --- masks -----------------------------------------------------------------------------------


def test_an_index_mask_is_returned_as_stored(tmp_path):
    mask = read_mask(save(tmp_path / "a.png", INDEX), 4, 255)
    np.testing.assert_array_equal(mask, INDEX)
    assert mask.dtype == np.uint8


def test_a_sixteen_bit_mask_may_hold_large_indices(tmp_path):
    wide = np.array([[0, 299], [1, 300]], np.uint16)
    mask = read_mask(save(tmp_path / "a.png", wide), 300, 300)
    np.testing.assert_array_equal(mask, wide)
    assert mask.dtype == np.uint16


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_the_stored_sample_is_the_index_at_any_bit_depth(tmp_path, bits):
    index = np.minimum(INDEX, 2**bits - 1)
    path = write_grey_png(tmp_path / "a.png", index, bits)
    np.testing.assert_array_equal(read_mask(path, 4, 255), index)


def test_a_mask_turns_with_its_image(tmp_path):
    image = save(tmp_path / "a.png", INDEX * 50, exif=orientation(6))
    mask = save(tmp_path / "b.png", INDEX, exif=orientation(6))
    np.testing.assert_array_equal(read_image(image)[..., 0], read_mask(mask, 4, 255) * 50)


@pytest.mark.parametrize("value", range(1, 9))
@pytest.mark.parametrize("compression", ["raw", "tiff_lzw"])
@pytest.mark.parametrize("mode", ["L", "P", "I;16"])
def test_a_tiff_mask_is_turned_once(tmp_path, mode, compression, value):
    samples = INDEX.astype(np.uint16) if mode == "I;16" else INDEX
    path = oriented_tiff(tmp_path / "a.tiff", samples, mode, value, compression)
    mask = read_mask(path, 4, 255, palette_masks=True)
    np.testing.assert_array_equal(mask, UPRIGHT[value](INDEX))


def test_a_palette_mask_is_refused_unless_asked_for(tmp_path):
    image = Image.fromarray(INDEX)
    image.putpalette([128, 0, 0, 0, 128, 0, 0, 0, 128, 7, 7, 7])
    image.save(tmp_path / "a.png")
    with pytest.raises(DataError, match=r"a\.png: a palette mask.*palette_masks=True"):
        read_mask(tmp_path / "a.png", 4, 255)
    mask = read_mask(tmp_path / "a.png", 4, 255, palette_masks=True)
    np.testing.assert_array_equal(mask, INDEX)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA"])
def test_a_mask_of_several_channels_is_refused(tmp_path, mode):
    with pytest.raises(DataError, match=rf"a\.png: mode {mode}, expected one channel"):
        read_mask(save(tmp_path / "a.png", INDEX, mode), 4, 255)


@pytest.mark.parametrize("kind", ["JPEG", "JPEG2000", "AVIF"])
def test_a_mask_of_a_lossy_format_is_refused(tmp_path, kind):
    with pytest.raises(DataError, match=rf"a\.png: a {kind} mask"):
        read_mask(save(tmp_path / "a.png", INDEX, format=kind), 4, 255)


def test_a_multi_picture_jpeg_mask_is_refused(tmp_path):
    picture = Image.fromarray(INDEX)
    path = save(tmp_path / "a.jpg", INDEX, format="MPO", save_all=True, append_images=[picture])
    with pytest.raises(DataError, match=r"a\.jpg: a MPO mask"):
        read_mask(path, 4, 255)


def test_a_tiff_mask_with_jpeg_compression_is_refused(tmp_path):
    path = save(tmp_path / "a.tiff", INDEX, compression="jpeg")
    with pytest.raises(DataError, match=r"a\.tiff: a TIFF \(jpeg\) mask"):
        read_mask(path, 4, 255)


def test_values_outside_the_classes_are_listed_with_their_counts(tmp_path):
    index = np.uint8([[0, 1, 4, 4], [9, 255, 4, 0]])
    with pytest.raises(
        DataError, match=r"a\.png: .* 0\.\.3 and ignore=255: 4 \(3.*, 9 \(1 pixel\)"
    ):
        read_mask(save(tmp_path / "a.png", index), 4, 255)


def test_negative_values_do_not_wrap_around(tmp_path):
    with pytest.raises(DataError, match=r"-1 \(1 pixel\)"):
        read_mask(save(tmp_path / "a.tiff", np.int32([[0, -1]])), 4, 255)


def test_a_stray_255_gets_both_explanations(tmp_path):
    path = save(tmp_path / "a.png", np.uint8([[0, 255]]))
    with pytest.raises(DataError, match=r"set config\.data\.ignore=255; .*convert 255 to 1"):
        read_mask(path, 2, 11)


def test_a_bmp_of_16_bits_in_all_is_not_darkened(tmp_path):
    # One white and one green pixel of 5, 6 and 5 bits, after a header with the masks of the bits.
    pixels = struct.pack("<HH", 0xFFFF, 0x07E0)
    masks = struct.pack("<III", 0xF800, 0x07E0, 0x001F)
    header = struct.pack("<IiiHHIIiiII", 40, 2, 1, 1, 16, 3, len(pixels), 0, 0, 0, 0)
    start = 14 + len(header) + len(masks)
    path = tmp_path / "a.bmp"
    path.write_bytes(
        struct.pack("<2sIHHI", b"BM", start + len(pixels), 0, 0, start) + header + masks + pixels
    )
    np.testing.assert_allclose(read_image(path), [[[255] * 3, [0, 255, 0]]], atol=7)

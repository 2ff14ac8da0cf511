"""Each mode of an image as 8-bit RGB: the rules that docs/data.md states."""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms

from kdzoo import UsageError
from kdzoo.data.rgb import DamagedImageError, ImageOrigin, damage_text, origin, read_rgb, to_rgb

GREYS = [0, 1, 128, 255]


def saved(image: Image.Image, kind: str, **options: object) -> io.BytesIO:
    file = io.BytesIO()
    image.save(file, kind, **options)
    file.seek(0)
    return file


def through(image: Image.Image, kind: str, **options: object) -> Image.Image:
    return read_rgb(saved(image, kind, **options), "x")


def pixels(image: Image.Image) -> list[list[int]]:
    """The pixels of the first row."""
    assert image.mode == "RGB"
    return np.asarray(image)[0].tolist()


def greys(image: Image.Image) -> list[int]:
    """The levels of the first row of a grey picture."""
    assert all(len(set(pixel)) == 1 for pixel in pixels(image))
    return [pixel[0] for pixel in pixels(image)]


def kind_of(image: Image.Image) -> str:
    found = origin(image)
    assert found is not None
    return found.kind


def noise(mode: str, size: tuple[int, int] = (7, 5)) -> Image.Image:
    bands = len(Image.new(mode, (1, 1)).getbands())
    values = np.random.default_rng(0).integers(0, 256, (size[1], size[0], bands), dtype=np.uint8)
    return Image.frombytes(mode, size, values.tobytes())


def png(depth: int, colour: int, row: bytes, width: int, *chunks: tuple[bytes, bytes]) -> io.BytesIO:
    """A PNG of one row, written by the format's own words: Pillow cannot write all that it reads."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, 1, depth, colour, 0, 0, 0))
    more = b"".join(chunk(*each) for each in chunks)
    body = chunk(b"IDAT", zlib.compress(b"\0" + row)) + chunk(b"IEND", b"")
    return io.BytesIO(b"\x89PNG\r\n\x1a\n" + head + more + body)


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBX", "CMYK", "YCbCr", "HSV"])
def test_plain_modes_are_what_pillow_makes_of_them(mode: str) -> None:
    image = noise("L").convert("1") if mode == "1" else noise(mode)
    if mode == "P":
        image.putpalette(np.random.default_rng(1).integers(0, 256, 768, dtype=np.uint8).tobytes())
    assert to_rgb(image).tobytes() == image.convert("RGB").tobytes()
    assert to_rgb(to_rgb(image)).tobytes() == image.convert("RGB").tobytes()


def test_files_of_plain_modes_are_bit_equal_to_what_pillow_makes_of_them() -> None:
    for image, kind in ((noise("L"), "PNG"), (noise("RGB"), "JPEG"), (noise("L"), "GIF"), (noise("CMYK"), "JPEG")):
        file = saved(image, kind)
        expected = Image.open(io.BytesIO(file.getvalue())).convert("RGB")
        assert read_rgb(file, "x").tobytes() == expected.tobytes()


def test_lab_is_converted() -> None:
    srgb, lab = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
    red = ImageCms.profileToProfile(Image.new("RGB", (2, 1), (200, 30, 40)), srgb, lab, outputMode="LAB")
    shown = pixels(through(red, "TIFF"))[0]
    assert np.abs(np.array(shown) - (200, 30, 40)).max() <= 3


@pytest.mark.parametrize("factor", [256, 257])
@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_16_bit_grey_keeps_its_upper_byte(factor: int, kind: str) -> None:
    image = Image.fromarray((np.array([GREYS]) * factor).astype(np.uint16))
    shown = through(image, kind)
    assert greys(shown) == GREYS
    assert origin(shown) == ImageOrigin("16-bit grey", 255 * factor)


@pytest.mark.parametrize("mode", ["I;16", "I;16L", "I;16B", "I;16N"])
def test_every_order_of_16_bit_grey(mode: str) -> None:
    order = {"I;16B": ">u2", "I;16N": "=u2"}.get(mode, "<u2")
    values = np.array([[0, 255, 256, 65535]], order)
    assert greys(to_rgb(Image.frombytes(mode, (4, 1), values.tobytes()))) == [0, 0, 1, 255]


def test_16_bit_colour_and_16_bit_grey_agree() -> None:
    values = [0, 255, 256, 32768, 65535]
    for colour, bands in ((0, 1), (2, 3)):
        row = b"".join(struct.pack(">H", value) * bands for value in values)
        assert greys(read_rgb(png(16, colour, row, 5), "x")) == [0, 0, 1, 128, 255]


def test_pgm_of_16_bits_is_16_bit_grey_whatever_its_greatest_value() -> None:
    words = np.array([0, 2048, 4095], ">u2").tobytes()
    assert greys(read_rgb(io.BytesIO(b"P5 3 1 4095\n" + words), "x")) == [0, 128, 255]
    assert greys(read_rgb(io.BytesIO(b"P5 3 1 65535\n" + words), "x")) == [0, 8, 15]


def test_whole_numbers_of_32_bits_are_read_up_to_255() -> None:
    assert greys(through(Image.fromarray(np.array([GREYS], np.int32)), "TIFF")) == GREYS
    for wrong in ([0, 256], [-1, 0], [0, 70_000]):
        with pytest.raises(UsageError, match=r"32-bit whole numbers from .* only 0 to 255 has a meaning here: scale"):
            through(Image.fromarray(np.array([wrong], np.int32)), "TIFF")


def test_floating_point_is_read_from_0_to_1() -> None:
    image = Image.fromarray(np.array([[0, 0.2, 0.5, 1]], np.float32))
    assert greys(through(image, "TIFF")) == [0, 51, 128, 255]
    for wrong in ([0, 1.01], [-0.01, 1], [0, 255], [0, np.nan], [0, np.inf]):
        with pytest.raises(UsageError, match=r"floating-point numbers from .* only 0 to 1 has a meaning here"):
            through(Image.fromarray(np.array([wrong], np.float32)), "TIFF")
    # What an interpolation leaves beside the range is rounded into it.
    assert greys(to_rgb(Image.fromarray(np.array([[-1e-6, 1 + 1e-6]], np.float32)))) == [0, 255]


def cut_out(colour: tuple[int, int, int], mode: str = "RGBA") -> Image.Image:
    """One colour everywhere, and the picture in alpha: absent, half there, there."""
    image = Image.new("RGBA", (3, 1), (*colour, 0))
    image.putalpha(Image.frombytes("L", (3, 1), bytes([0, 128, 255])))
    return image if mode == "RGBA" else image.convert(mode)


def test_a_picture_in_alpha_is_laid_on_white() -> None:
    for shown in (through(cut_out((0, 0, 0)), "PNG"), through(cut_out((0, 0, 0), "LA"), "PNG")):
        assert greys(shown) == [255, 127, 0]
        assert kind_of(shown) == "transparent"
    assert pixels(to_rgb(cut_out((200, 0, 0))))[::2] == [[255, 255, 255], [200, 0, 0]]


@pytest.mark.parametrize("level", [255, 245])
def test_a_picture_that_white_would_hide_is_laid_on_black(level: int) -> None:
    shown = through(cut_out((level,) * 3), "PNG")
    assert greys(shown)[::2] == [0, level]
    assert kind_of(shown) == "transparent, bright"


@pytest.mark.parametrize("alpha", [0, 90, 255])
def test_alpha_of_one_value_is_no_picture(alpha: int) -> None:
    image = noise("RGB")
    image.putalpha(alpha)
    shown = through(image, "PNG")
    assert shown.tobytes() == noise("RGB").tobytes()
    assert kind_of(shown) == "alpha of one value"


def test_transparent_entries_of_a_palette_are_laid_on_white() -> None:
    # A black shape, and a background that is transparent and black too, as drawing programs write it.
    image = Image.frombytes("P", (3, 1), bytes([0, 1, 2]))
    image.putpalette([0, 0, 0, 0, 0, 0, 200, 0, 0])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for options in ({"transparency": 0}, {"transparency": bytes([0, 255, 255])}):
            shown = through(image, "PNG", **options)
            assert pixels(shown) == [[255, 255, 255], [0, 0, 0], [200, 0, 0]]
        assert pixels(through(image, "GIF", transparency=0)) == [[255, 255, 255], [0, 0, 0], [200, 0, 0]]
        # Nothing in the picture uses the entry.
        assert pixels(through(image, "GIF", transparency=7)) == [[0, 0, 0], [0, 0, 0], [200, 0, 0]]
    assert pixels(to_rgb(image)) == [[0, 0, 0], [0, 0, 0], [200, 0, 0]]


def test_palettes_with_an_alpha_band_and_premultiplied_colours() -> None:
    image = Image.new("PA", (2, 1))
    image.putpalette([0, 0, 0, 10, 20, 30])
    image.putdata([(1, 255), (1, 0)])
    assert pixels(to_rgb(image)) == [[10, 20, 30], [255, 255, 255]]
    assert pixels(to_rgb(cut_out((200, 0, 0)).convert("RGBa")))[::2] == [[255, 255, 255], [200, 0, 0]]
    assert greys(to_rgb(cut_out((0, 0, 0), "LA").convert("La"))) == [255, 127, 0]


def test_a_colour_that_a_png_calls_transparent_stays() -> None:
    grey = png(8, 0, bytes([0, 9]), 2, (b"tRNS", struct.pack(">H", 9)))
    assert greys(read_rgb(grey, "x")) == [0, 9]
    colour = png(8, 2, bytes([0, 0, 0, 9, 8, 7]), 2, (b"tRNS", struct.pack(">HHH", 9, 8, 7)))
    assert pixels(read_rgb(colour, "x")) == [[0, 0, 0], [9, 8, 7]]


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "TIFF"])
def test_the_first_frame_of_an_animation_is_read(kind: str) -> None:
    frames = [Image.new("RGB", (16, 16), colour) for colour in ((255, 0, 0), (0, 255, 0), (0, 0, 255))]
    options = {"lossless": True} if kind == "WEBP" else {}
    shown = through(frames[0], kind, save_all=True, append_images=frames[1:], **options)
    assert pixels(shown)[0] == [255, 0, 0]


def test_orientation_is_not_applied_but_kept_to_be_told() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    image = noise("RGB", (6, 4))
    for kind in ("PNG", "JPEG", "WEBP"):
        shown = through(image, kind, exif=exif)
        assert shown.size == (6, 4)
        assert shown.getexif()[0x0112] == 6


def test_colour_profiles_are_ignored() -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    image = noise("RGB")
    assert through(image, "PNG", icc_profile=profile).tobytes() == image.tobytes()
    assert "icc_profile" not in through(image, "PNG", icc_profile=profile).info


def damage(tmp_path: Path, content: bytes, name: str = "x.jpg") -> str:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DamagedImageError) as caught:
        read_rgb(tmp_path / name, name)
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith(f"cannot read the image {name} (")
    return caught.value.line


def test_damaged_files_are_one_sentence_each(tmp_path: Path) -> None:
    jpeg = saved(noise("RGB", (64, 64)), "JPEG").getvalue()
    assert damage(tmp_path, b"") == "x.jpg (the file is empty)"
    assert damage(tmp_path, b"These are words.\n") == "x.jpg (it is not an image, or damaged from the start)"
    assert "truncated" in damage(tmp_path, jpeg[: len(jpeg) // 2])
    for kind in ("PNG", "GIF", "WEBP", "BMP", "TIFF", "AVIF", "JPEG2000"):
        whole = saved(noise("RGB", (64, 64)), kind).getvalue()
        damage(tmp_path, whole[: len(whole) * 2 // 3])
        damage(tmp_path, whole[:30])
    with pytest.raises(DamagedImageError, match=r"absent.png \(No such file or directory\)"):
        read_rgb(tmp_path / "absent.png", "absent.png")
    with pytest.raises(DamagedImageError, match="Is a directory"):
        read_rgb(tmp_path, "folder.png")


def test_an_image_of_too_many_pixels_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 50)
    content = saved(noise("RGB", (11, 10)), "PNG").getvalue()
    assert "more than 100 pixels" in damage(tmp_path, content)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert through(noise("RGB", (10, 9)), "PNG").size == (10, 9)


def test_what_a_decoder_says_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("lines\n" * 100_000)

    monkeypatch.setattr(Image.Image, "convert", fail)
    assert len(damage(tmp_path, saved(noise("RGB"), "PNG").getvalue())) < 250


def test_a_list_of_damaged_images_is_bounded() -> None:
    text = damage_text("pets", 5_000, 1_234, [f"{n}.png (cut)" for n in range(30)])
    assert text.startswith("1,234 of the 5,000 images of pets cannot be read; fix or remove them:\n  0.png (cut)\n")
    assert text.endswith("\n  19.png (cut)\n  and 1,214 more")

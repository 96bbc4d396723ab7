import contextlib
import io
import zlib

import numpy as np
import pytest
from PIL import Image

from digits.reading.image_file import PictureError, count_pages, open_picture
from extras.drawing import on_paper
from tests.conftest import posix

INK = np.pad(np.ones((20, 6)), ((10, 10), (20, 34)))
BLACK, BLUE = on_paper(INK), on_paper(INK, (250, 250, 240), (20, 20, 90))


def in_format(image, format, **options):
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def difference(source, expected):
    pixels = open_picture(source)[0]
    assert (pixels.shape, pixels.dtype) == (expected.shape, np.uint8)
    return abs(pixels.astype(int) - expected).mean()


@pytest.mark.parametrize("format", ["PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "PPM"])
def test_any_format_from_bytes_file_and_path(format, tmp_path):
    data = in_format(Image.fromarray(BLUE), format)
    (tmp_path / "picture.bin").write_bytes(data)
    assert all(difference(source, BLUE) < 4 for source in (data, io.BytesIO(data), tmp_path / "picture.bin"))


def test_exif_rotation():
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90° clockwise
    data = in_format(Image.fromarray(BLUE).rotate(90, expand=True), "JPEG", exif=exif)
    assert difference(data, BLUE) < 4 and open_picture(data)[2] == (40, 60)


def test_any_mode_of_images_and_arrays_and_transparent_pixels_which_become_paper():
    for mode in ("1", "L", "P", "RGB", "CMYK", "YCbCr", "HSV", "I", "F"):
        assert difference(Image.fromarray(BLACK).convert(mode), BLACK) < 1, mode
    black, white = (np.dstack([0 * BLACK + level, 255 - BLACK[..., 0]]) for level in (0, 255))
    for picture in (BLACK, BLACK[..., 0], BLACK[..., :1], black, Image.fromarray(black).convert("LA")):
        assert difference(picture, BLACK) == 0
    assert difference(white, 255 - BLACK) == 0
    for deep in (BLACK[..., 0] * np.uint16(100), Image.fromarray(BLACK[..., 0] * np.uint16(100)).convert("I")):
        assert difference(deep, BLACK * (100 / 257)) < 0.5  # of 65535 grey levels, not cut off at 255


@pytest.mark.parametrize("format", ["PNG", "JPEG"])
def test_large_pictures_are_reduced_and_a_pil_image_is_left_as_it_is(format):
    large = Image.fromarray(BLUE).resize((3000, 3000))
    data = in_format(large, format)
    image = Image.open(io.BytesIO(data))
    for source in (data, image, image):
        pixels, factor, size = open_picture(source)
        assert max(pixels.shape) < 2000 and size == (3000, 3000)
        assert factor == pytest.approx(3000 / max(pixels.shape))
        assert abs(pixels.astype(int) - large.resize(pixels.shape[:2])).mean() < 4
    assert image.size == (3000, 3000)


BOMB = bytearray(in_format(Image.new("L", (1, 1)), "PNG"))  # claims 60,000×60,000 pixels; bytearrays are read, too
BOMB[16:24] = np.array([60_000, 60_000], ">u4").tobytes()
BOMB[29:33] = zlib.crc32(BOMB[12:29]).to_bytes(4, "big")


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (b"", "empty"),
        (b"some text, and a little more of it", "not a picture"),
        (in_format(Image.effect_noise((200, 200), 60), "PNG")[:5000], "damaged"),
        (BOMB, "too many"),
        (b"\0\0\0\x1cftypheic" + bytes(40), "HEIC"),
        (b"P6 x 3 255 " + bytes(50), "damaged|not a picture"),
        (in_format(Image.new("L", (30, 20)), "TIFF").replace(b"\0\1\4\0", b"\x99\1\4\0", 1), "damaged|not a picture"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n", "not a picture"),  # a program
        (bytearray(b"text again, as a bytearray"), "not a picture"),
        (np.zeros((4, 4)), "uint8"),
        (np.zeros((4, 4, 5), np.uint8), "uint8"),
        (np.zeros((0, 4), np.uint8), "empty"),
        ("no/such.png", "no such file"),
        (".", "is a directory"),
        pytest.param("/dev/zero", "pipe or device", marks=posix),
        ("x" * 300, "name too long"),
        (None, "not NoneType"),
    ],
)
def test_what_cannot_be_read_is_said_in_one_line(source, message):
    with pytest.raises(PictureError, match=message) as error:
        open_picture(source)
    assert "\n" not in str(error.value)


def test_a_box_is_cut_out_before_the_picture_is_reduced():
    picture = np.full((3000, 4000, 3), 255, np.uint8)
    pixels, factor, _ = open_picture(picture, box=(1900, 900, 400, 400))
    assert (pixels.shape, factor) == ((400, 400, 3), 1)
    for box in ((3900, 0, 200, 100), (-1, 0, 10, 10), (0, 0, 0, 10)):
        with pytest.raises(PictureError, match="not inside 4000×3000"):
            open_picture(picture, box)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("top", [1, 255])
def test_a_float_tiff_may_have_pixels_without_a_value(tmp_path, value, top):
    levels = np.full((60, 60), top, np.float32)
    levels[10:50, 28:32] = 0
    levels[3, 3] = value
    Image.fromarray(levels).save(tmp_path / "a.tif")
    pixels, *_ = open_picture(tmp_path / "a.tif")
    assert (pixels[30, 30].max(), pixels[0, 0].min(), pixels[3, 3].min()) == (0, 255, 255)


def test_a_bool_array_is_white_where_it_is_true():
    assert open_picture(np.eye(9, dtype=bool))[0][..., 0].tolist() == (255 * np.eye(9)).tolist()


def test_libtiff_is_quiet(tmp_path, capfd):
    Image.effect_noise((100, 100), 50).save(tmp_path / "a.tif", compression="tiff_lzw")
    data = bytearray((tmp_path / "a.tif").read_bytes())
    data[len(data) // 2 : len(data) // 2 + 200] = bytes(200)
    (tmp_path / "a.tif").write_bytes(data)
    with contextlib.suppress(PictureError):
        open_picture(tmp_path / "a.tif")
    assert capfd.readouterr() == ("", "")


def test_pages(tmp_path):
    pages = [Image.new("L", (30, 20), level) for level in (0, 100, 200)]
    pages[0].save(tmp_path / "a.tif", save_all=True, append_images=pages[1:])
    assert count_pages(tmp_path / "a.tif") == 3
    assert [int(open_picture(tmp_path / "a.tif", page=page)[0].mean()) for page in range(3)] == [0, 100, 200]
    data = (tmp_path / "a.tif").read_bytes()
    (tmp_path / "broken.tif").write_bytes(data[: data.rindex(b"II") + 1])  # in the header of the last page
    assert count_pages(tmp_path / "broken.tif") == 3  # the one that is broken off counts, so that it is reported
    with pytest.raises(PictureError, match="damaged"):
        open_picture(tmp_path / "broken.tif", page=2)
    pages[0].save(tmp_path / "a.gif", save_all=True, append_images=pages[1:])
    assert count_pages(data) == 3
    with pytest.raises(PictureError, match="there is no page 4"):
        open_picture(data, page=3)
    assert count_pages(tmp_path / "a.gif") == count_pages(tmp_path / "none.tif") == 1

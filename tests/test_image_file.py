import io
import zlib

import numpy as np
import pytest
from PIL import Image

from digits.reading.image_file import PictureError, count_pages, open_picture


def damaged_png():
    buffer = io.BytesIO()
    Image.effect_noise((200, 200), 60).save(buffer, "PNG")
    return buffer.getvalue()[:5000]


def bomb():
    """A PNG of a few bytes that claims 60,000×60,000 pixels."""
    buffer = io.BytesIO()
    Image.new("L", (1, 1)).save(buffer, "PNG")
    data = bytearray(buffer.getvalue())
    data[16:24] = np.array([60_000, 60_000], ">u4").tobytes()
    data[29:33] = zlib.crc32(bytes(data[12:29])).to_bytes(4, "big")
    return bytes(data)


def odd_tiff():
    """A TIFF of which the first page has no size."""
    buffer = io.BytesIO()
    Image.new("L", (30, 20)).save(buffer, "TIFF")
    return buffer.getvalue().replace(b"\x00\x01\x04\x00", b"\x99\x01\x04\x00", 1)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (b"", "empty"),
        (b"some text, and a little more of it", "not a picture"),
        (damaged_png(), "damaged"),
        (bomb(), "too many"),
        (b"\0\0\0\x1cftypheic" + bytes(40), "HEIC"),
        (b"P6 x 3 255 " + bytes(50), "damaged|not a picture"),
        (odd_tiff(), "damaged|not a picture"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n", "not a picture"),  # a program
        (bytearray(b"text again, as a bytearray"), "not a picture"),
        (np.zeros((4, 4)), "uint8"),
        (np.zeros((4, 4, 5), np.uint8), "uint8"),
        (np.zeros((0, 4), np.uint8), "empty"),
        ("no/such.png", "no such file"),
        (".", "is a directory"),
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
    assert count_pages(tmp_path / "a.gif") == count_pages(tmp_path / "none.tif") == 1


def test_a_pil_image_is_left_as_it_is():
    buffer = io.BytesIO()
    Image.new("RGB", (3000, 3000), (250, 250, 240)).save(buffer, "JPEG")
    image = Image.open(buffer)
    first, again = (open_picture(image) for _ in range(2))
    assert image.size == (3000, 3000)
    assert first[1] == again[1] > 1 and first[2] == (3000, 3000)

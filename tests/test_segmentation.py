import io

import numpy as np
import pytest
from PIL import Image

from digits.data import strokes
from digits.reading.image_file import open_picture
from digits.reading.normalization import centre, pen_width
from digits.reading.segmentation import MAX_PIECES, find_seams, preprocess, remove_ruled_lines, segment


def five(size=200):
    """Ink of a 5, float32 size×size, 0-1, in the middle of its sheet."""
    rng = np.random.default_rng(0)
    dots = strokes.write(strokes.GLYPHS[5][0][1], 1, rng, spacing=0.01)
    dots, radius = strokes.fit(dots, np.array([size / 25]), rng, box=size * 0.7, size=size)
    return strokes.ink(dots, radius, size)[0] / 255


@pytest.fixture(scope="module")
def expected():
    return find(Image.fromarray((255 * five()).astype(np.uint8)))


def find_digit(picture):
    """The Candidate with all of the ink."""
    return max(segment(picture), key=lambda candidate: candidate.box[2] * candidate.box[3])


def find(source):
    return find_digit(open_picture(source)[0]).image[..., 0].astype(float)


def alike(image, expected):
    """Correlation of two 28×28 images."""
    return np.corrcoef(image.ravel(), expected.ravel())[0, 1]


def on_paper(paper, colour, ink=None):
    ink = five() if ink is None else ink
    return (np.array(paper) + ink[..., None] * (np.array(colour, float) - np.array(paper))).astype(np.uint8)


def placed(top, left, height=500, width=700):
    ink = np.zeros((height, width), np.float32)
    ink[top : top + 200, left : left + 200] = five()
    return ink


def with_light(picture):
    return (picture * np.linspace(1, 0.6, picture.shape[1])[None, :, None]).astype(np.uint8)


def with_noise(picture):
    noise = np.random.default_rng(0).normal(0, 6, picture.shape)
    return np.clip(picture + noise, 0, 255).astype(np.uint8)


PICTURES = {
    "black on white": on_paper((255, 255, 255), (0, 0, 0)),
    "white on black": on_paper((0, 0, 0), (255, 255, 255)),
    "blue on yellow": on_paper((240, 230, 120), (30, 60, 160)),
    "faint grey": on_paper((235, 235, 235), (150, 150, 150)),
    "red on green of the same grey": on_paper((60, 140, 60), (210, 40, 40)),
    "in a corner": on_paper((255, 255, 255), (0, 0, 0), placed(0, 500)),
    "in another corner": on_paper((0, 0, 0), (200, 255, 200), placed(290, 20)),
    "light from one side": with_light(on_paper((230, 220, 210), (60, 60, 70))),
    "camera noise": with_noise(on_paper((230, 220, 210), (60, 60, 70))),
}


@pytest.mark.parametrize("name", PICTURES)
def test_the_digit_is_cut_out_and_centred(name, expected):
    assert alike(find(Image.fromarray(PICTURES[name])), expected) > 0.97


def test_a_small_crop_with_light_from_one_side(expected):
    dark = on_paper((230, 220, 210), (120, 110, 100)) * np.linspace(1, 0.45, 200)[None, :, None]
    crop = Image.fromarray(dark.astype(np.uint8)).resize((64, 64), Image.Resampling.BOX)
    assert alike(find(crop), expected) > 0.75  # 0.5 if the paper is thought to be of one colour


def test_a_speck_does_not_move_the_digit(expected):
    picture = on_paper((255, 255, 255), (0, 0, 0), placed(250, 450))
    picture[20:24, 30:34] = 0
    assert alike(find(Image.fromarray(picture)), expected) > 0.97


def modes():
    grey = Image.fromarray((255 * (1 - five())).astype(np.uint8))
    rgb = Image.fromarray(on_paper((250, 250, 240), (20, 20, 90)))
    clear = Image.merge("RGBA", [Image.new("L", grey.size, 0)] * 3 + [Image.fromarray((255 * five()).astype(np.uint8))])
    light = Image.merge("RGBA", [Image.new("L", grey.size, 255)] * 3 + [clear.getchannel("A")])
    deep = Image.fromarray((65535 * (1 - five())).astype(np.uint16))
    return {"1": grey.convert("1"), "L": grey, "LA": clear.convert("LA"), "P": rgb.quantize(16), "RGB": rgb,
            "RGBA": clear, "RGBA, white ink": light, "CMYK": rgb.convert("CMYK"), "YCbCr": rgb.convert("YCbCr"),
            "I;16": deep, "I": deep.convert("I"), "F": grey.convert("F"), "HSV": rgb.convert("HSV")}  # fmt: skip


@pytest.mark.parametrize("mode", modes())
def test_any_mode(mode, expected):
    assert alike(find(modes()[mode]), expected) > 0.97


@pytest.mark.parametrize("format", ["PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "PPM"])
def test_any_format_from_bytes_file_and_path(format, expected, tmp_path):
    buffer = io.BytesIO()
    Image.fromarray(on_paper((250, 250, 240), (20, 20, 90))).save(buffer, format)
    (tmp_path / "picture.bin").write_bytes(buffer.getvalue())
    for source in (buffer.getvalue(), io.BytesIO(buffer.getvalue()), tmp_path / "picture.bin"):
        assert alike(find(source), expected) > 0.97


def test_exif_rotation(expected):
    image = Image.fromarray(on_paper((255, 255, 255), (0, 0, 0)))
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90° clockwise
    buffer = io.BytesIO()
    image.rotate(90).save(buffer, "JPEG", exif=exif)
    assert alike(find(buffer.getvalue()), expected) > 0.97


def test_arrays_and_their_box():
    ink = placed(250, 450)
    for array in (255 * ink, 255 * ink[..., None], 255 - 255 * np.stack([ink] * 3, -1)):
        x, y, width, height = find_digit(open_picture(array.astype(np.uint8))[0]).box
        rows, columns = np.flatnonzero(ink.any(1)), np.flatnonzero(ink.any(0))
        assert abs(x - columns[0]) <= 3 and abs(y - rows[0]) <= 3
        assert abs(x + width - columns[-1]) <= 4 and abs(y + height - rows[-1]) <= 4


@pytest.mark.parametrize("format", ["PNG", "JPEG"])
def test_large_pictures_are_reduced(format, expected):
    image = Image.fromarray(on_paper((250, 250, 240), (20, 20, 90))).resize((3000, 3000))
    buffer = io.BytesIO()
    image.save(buffer, format)
    pixels, factor, _ = open_picture(buffer.getvalue())
    assert max(pixels.shape) < 2000
    assert factor == pytest.approx(3000 / max(pixels.shape))
    assert alike(find_digit(pixels).image[..., 0], expected) > 0.97


def test_mnist_images_stay_what_they_are():
    likeness = [alike(find(image), image[..., 0]) for image in strokes.draw(50, seed=9)[0]]
    assert np.median(likeness) > 0.99
    assert np.quantile(likeness, 0.1) > 0.85  # moved by a pixel, or written with a pen that MNIST hardly has


BLANK = {
    "white": np.full((100, 80, 3), 255, np.uint8),
    "black": np.zeros((28, 28), np.uint8),
    "grey": np.full((300, 400), 128, np.uint8),
    "one pixel": np.zeros((1, 1), np.uint8),
    "a row": np.full((1, 50), 200, np.uint8),
    "noise": with_noise(np.full((200, 200, 3), 200.0)),
    "light from one side": with_light(np.full((200, 300, 3), 220.0)),
}


@pytest.mark.parametrize("name", BLANK)
def test_blank_paper_has_no_digit(name):
    assert segment(open_picture(BLANK[name])[0]) == []


def test_a_digit_on_a_long_strip_is_not_lost():
    strip = np.full((100, 20000, 3), 255, np.uint8)
    strip[10:90, 9000:9080] = on_paper((255, 255, 255), (0, 0, 0), five(80))
    assert len(segment(open_picture(strip)[0])) == 1


def test_a_pattern_of_dots_has_no_end_of_pieces():
    dots = np.zeros((400, 400), np.float32)
    dots[::8, ::8] = dots[1::8, ::8] = dots[::8, 1::8] = dots[1::8, 1::8] = 1
    assert len(preprocess(on_paper((255, 255, 255), (0, 0, 0), np.pad(dots, 20))).boxes) <= MAX_PIECES


def test_ruled_lines_go_and_strokes_that_cross_them_stay():
    strokes_alone = five() > 0.5
    lined = strokes_alone.copy()
    lined[[50, 51, 100, 101, 150, 151]] = True
    lined[:, [30, 31, 170, 171]] = True
    rest = remove_ruled_lines(lined)
    assert (rest & ~strokes_alone).sum() < 0.05 * strokes_alone.sum()
    assert (strokes_alone & ~rest).sum() < 0.15 * strokes_alone.sum()
    one = np.zeros((200, 200), bool)
    one[:, 95:105] = True  # a 1 from edge to edge is no line, since nothing else is there
    assert (remove_ruled_lines(one) == one).all()


def test_the_pen_is_brought_to_the_usual_width():
    for radius, usual in ((0.8, 2.2), (9, 2.3), (20, 4.2)):
        dots = strokes.write(strokes.GLYPHS[0][0][1], 1, np.random.default_rng(0), spacing=0.005)
        dots, radii = strokes.fit(dots, np.array([radius]), np.random.default_rng(0), box=150, size=200)
        picture = np.repeat(strokes.ink(dots, radii, 200)[0][..., None], 3, -1)
        enlarged = Image.fromarray(find_digit(picture).image[..., 0]).resize((112, 112), Image.Resampling.BILINEAR)
        assert abs(pen_width(np.asarray(enlarged) > 127) / 4 - usual) < 0.6


def test_pieces_that_belong_together_and_pieces_that_do_not():
    parted = five()
    parted[98:101] = 0
    picture = on_paper((255, 255, 255), (0, 0, 0), parted)
    assert len(preprocess(picture).boxes) == 1
    two = on_paper((255, 255, 255), (0, 0, 0), np.hstack([five(), five()]))
    assert len(preprocess(two).boxes) == 2
    lines = [candidate.line for candidate in segment(np.vstack([two, two]))]
    assert lines == sorted(lines) and set(lines) == {0, 1}


def test_a_cut_follows_the_gap_between_digits_that_interlock():
    rows, ink = np.arange(60), np.zeros((60, 80), np.float32)
    gap = (35 + 15 * np.sin(rows / 60 * np.pi)).astype(int)  # between two arcs
    for row in rows:
        ink[row, gap[row] - 15 : gap[row] - 3] = ink[row, gap[row] + 4 : gap[row] + 16] = 1
        ink[row, gap[row] - 3 : gap[row] + 4] = 29 <= row <= 30  # where they touch
    crossed = [ink[rows, seam].sum() for seam in find_seams(ink) if abs(seam - gap).max() < 5]
    assert crossed == [2]


def test_what_stands_alone_is_cut_only_if_it_is_wide():
    letter = np.zeros((100, 100), np.float32)
    letter[:, :10] = letter[:, -10:] = letter[:10] = 1  # as wide as high: an n
    assert len(segment(on_paper((255, 255, 255), (0, 0, 0), np.pad(letter, 50)))) == 1
    wide = np.pad(np.hstack([letter, letter[:, 10:]]), 50)
    assert len(segment(on_paper((255, 255, 255), (0, 0, 0), wide))) > 1


def test_centre_keeps_the_aspect():
    image = centre(np.ones((40, 10), np.float32))[..., 0]
    rows, columns = np.flatnonzero(image.any(1)), np.flatnonzero(image.any(0))
    assert (len(rows), len(columns)) == (20, 5)

import numpy as np
from PIL import Image

from digits.reading.candidates import find_candidates, find_seams
from digits.reading.image_file import open_picture
from digits.reading.segmentation import MAX_PIECES, preprocess
from extras.drawing import on_paper, write
from tests.conftest import digits

INK = write("5", np.random.default_rng(1), 200, 200, 140, 16, corner=(30, 50))


def main_digit(picture):
    """The Candidate with all of the ink."""
    return max(find_candidates(picture), key=lambda candidate: candidate.box[2] * candidate.box[3])


def test_a_digit_has_its_box_and_a_speck_does_not_move_it():
    ink = np.pad(INK, ((250, 50), (450, 50)))
    picture = on_paper(ink)
    picture[20:24, 30:34] = 0
    digit, (rows, columns) = main_digit(picture), np.nonzero(ink)
    box = columns.min(), rows.min(), np.ptp(columns) + 1, np.ptp(rows) + 1
    assert abs(np.subtract(digit.box, box)).max() <= 4
    assert np.corrcoef(digit.image.ravel(), main_digit(on_paper(INK)).image.ravel())[0, 1] > 0.97


def test_mnist_images_stay_what_they_are():
    images = digits(50, seed=9)[0]
    found = [main_digit(np.repeat(image, 3, -1)).image.ravel() for image in images]
    likeness = [np.corrcoef(one, image.ravel())[0, 1] for one, image in zip(found, images, strict=True)]
    assert np.median(likeness) > 0.99
    assert np.quantile(likeness, 0.1) > 0.85  # moved by a pixel, or written with a pen that MNIST hardly has


def test_blank_paper_has_no_digit():
    for height, width, level in ((100, 80, 255), (28, 28, 0), (300, 400, 128), (1, 1, 0), (1, 50, 200)):
        assert find_candidates(np.full((height, width, 3), level, np.uint8)) == []
    paper = np.zeros((200, 300)), (220, 220, 220)
    assert find_candidates(on_paper(*paper, light=np.linspace(1, 0.6, 300))) == []
    assert find_candidates(on_paper(*paper, noise=6, rng=np.random.default_rng(0))) == []


def test_a_digit_on_a_long_strip_is_not_lost():
    strip = np.full((100, 20000, 3), 255, np.uint8)
    strip[10:90, 9000:9080] = Image.fromarray(on_paper(INK)).resize((80, 80))
    assert len(find_candidates(open_picture(strip)[0])) == 1


def test_the_number_of_pieces_is_limited():
    dots = np.kron(np.ones((50, 50)), np.pad(np.ones((2, 2)), ((0, 6), (0, 6))))
    assert len(preprocess(on_paper(np.pad(dots, 20))).boxes) <= MAX_PIECES


def test_pieces_that_belong_together_and_pieces_that_do_not():
    broken = INK.copy()
    broken[98:101] = 0
    assert len(preprocess(on_paper(broken)).boxes) == 1
    two = on_paper(np.hstack([INK, INK]))
    assert len(preprocess(two).boxes) == 2
    lines = [candidate.line for candidate in find_candidates(np.vstack([two, two]))]
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
    assert len(find_candidates(on_paper(np.pad(letter, 50)))) == 1
    wide = np.pad(np.hstack([letter, letter[:, 10:]]), 50)
    assert len(find_candidates(on_paper(wide))) > 1


def test_the_faint_part_of_a_stroke_belongs_to_it():
    pressure = np.where(np.arange(200)[:, None] < 100, 1, 0.15)
    whole, fading = (Image.fromarray(on_paper(ink, (0, 0, 0), (200, 200, 200))) for ink in (INK, INK * pressure))
    small = [main_digit(np.asarray(one.resize((28, 28), Image.Resampling.BOX))) for one in (whole, fading)]
    assert small[1].box == small[0].box
    assert np.corrcoef(*(one.image.ravel() for one in small))[0, 1] > 0.9

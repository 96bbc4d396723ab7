"""extras/forms/: fields are found, sheets are aligned and read into a table, and nothing that is written gets lost."""

import csv
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image

from digits.cli import UsageError
from tests.conftest import PROJECT, one_line

pytest.importorskip("cv2", reason="pip install -r extras/requirements-forms.txt")
pytest.importorskip("pypdfium2", reason="pip install -r extras/requirements-forms.txt")

from extras.forms import __main__ as forms
from extras.forms import align, description, drawn, layout, measure, pages, read, table

SAMPLE = PROJECT / "samples" / "form"
TRUTH = {"1": "967823", "3": "961694"}  # what is in the field Order


@pytest.fixture
def sample(workplace):
    """The sample form in the working folder; its sheets in scans/."""
    for name in ("order_form.png", "order_form.json"):
        shutil.copy(SAMPLE / name, workplace)
    shutil.copytree(SAMPLE / "sheets", workplace / "scans")
    return workplace


@pytest.fixture
def forms_read(shipped):
    return lambda *flags: forms.main(["read", *flags, "--model", str(shipped)])


def rows_of(path):
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


# Fields


@pytest.mark.parametrize("title", drawn.FORMS)
@pytest.mark.parametrize(
    "how", ["as drawn", pytest.param("light blue, tilted, scanned at 200 dpi", marks=pytest.mark.slow)]
)
def test_every_field_is_proposed(title, how):
    picture, rng = drawn.blank(title), np.random.default_rng(0)
    if how != "as drawn":
        picture = np.rint(255 - (255 - picture) / 255 * (105, 65, 20)).astype(np.uint8)
        tilted = Image.fromarray(picture).rotate(1, Image.Resampling.BICUBIC, fillcolor="white").resize((1653, 2339))
        picture = np.clip(tilted + rng.normal(0, 4, (2339, 1653, 3)), 0, 255).astype(np.uint8)
    found = layout.find_fields(picture)
    scale = picture.shape[0] / drawn.HEIGHT
    for name, field in drawn.describe(title, None).fields.items():
        x, y = np.array(field.box[:2]) + np.array(field.box[2:]) / 2  # its centre
        if how != "as drawn":
            matrix = align.cv2.getRotationMatrix2D((drawn.WIDTH / 2, drawn.HEIGHT / 2), 1, scale)
            x, y = matrix @ [x, y, 1] - matrix @ [drawn.WIDTH / 2, drawn.HEIGHT / 2, 1]
            x, y = x + picture.shape[1] / 2, y + picture.shape[0] / 2
        here = [one for one in found if 0 < x - one.box[0] < one.box[2] and 0 < y - one.box[1] < one.box[3]]
        assert [one.cells for one in here] == [field.cells], name
        assert here[0].box[2] == pytest.approx(scale * field.box[2], rel=0.05, abs=12), name
    assert len(found) <= len(drawn.FORMS[title]) + 1  # and the mark at the top


def test_find_writes_a_file_to_edit_and_a_picture(sample, capsys):
    shutil.copy("order_form.png", "blank.png")
    assert forms.main(["find", "blank.png"]) == 0
    assert "9 fields" in capsys.readouterr().out
    (form,) = description.load(sample / "blank.json")
    assert form.picture == sample / "blank.png" and form.fields["Field 2"].cells == 6
    marked, plain = (np.asarray(Image.open(name).convert("RGB"), int) for name in ("blank_fields.png", "blank.png"))
    x, y, width, _ = form.fields["Field 2"].box
    along_top = np.abs(marked - plain)[y - 3 : y + 4, x : x + width].max((0, 2))
    assert np.mean(along_top > 50) > 0.9  # a line
    one_line(capsys, forms.main(["find", "blank.png"]), "blank.json", "--overwrite")
    assert forms.main(["find", "blank.png", "--overwrite"]) == 0


def test_find_takes_the_pages_of_a_pdf(workplace):
    first, second = (Image.fromarray(drawn.blank(title)) for title in drawn.FORMS)
    first.save("two.pdf", save_all=True, append_images=[second], resolution=150)
    assert forms.main(["find", "two.pdf"]) == 0
    one, other = description.load(workplace / "two.json")
    assert (one.page, other.page) == (0, 1) and "Field 10" in other.fields  # numbered on
    assert (workplace / "two_fields.png").exists() and (workplace / "two_fields_2.png").exists()


FIELD = '{"form": "f.png", "fields": {"A": %s}}'


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "not a JSON file"),
        ("[]", "no form"),
        ("5", "not an object"),
        ("[" * 100_000, "not a JSON file"),
        ('{"form": "f.png"}', '"fields" is missing'),
        ('{"form": "f.png", "fields": {}}', "at least one"),
        ('{"form": 5, "fields": {"A": {"box": [1, 2, 3, 4]}}}', '"form" is 5'),
        ('{"form": "f.png", "page": 0, "fields": {"A": {"box": [1, 2, 3, 4]}}}', '"page" is 0'),
        ('{"form": "f.png", "fields": {"A": {"box": [1, 2, 3, 4]}, "A": {"box": [1, 2, 3, 4]}}}', "'A' is there twice"),
        ('{"form": "f.png", "fields": {"review": {"box": [1, 2, 3, 4]}}}', "'review'"),
        ('{"form": "f.png", "fields": {"A": {"box": [1, 2, 3, 4]}, "A confidence": {"box": [1, 2, 3, 4]}}}', "column"),
        ("[%s, %s]" % ((FIELD % '{"box": [1, 2, 3, 4]}',) * 2), "two forms have a field 'A'"),
        (FIELD % "[1, 2, 3, 4]", "field 'A'"),
        (FIELD % "{}", '"box" is missing'),
        (FIELD % '{"bix": [1, 2, 3, 4]}', "unknown key 'bix'"),
        (FIELD % '{"box": [1, 2, 3]}', '"box" is [1, 2, 3]'),
        (FIELD % '{"box": [1, 2, 0, 4]}', '"box" is'),
        (FIELD % '{"box": [1, -2, 3, 4]}', '"box" is'),
        (FIELD % '{"box": [1, 2, 3, 4], "cells": 0}', '"cells" is 0'),
        (FIELD % '{"box": [1, 2, 3, 4], "digits": "six"}', '"digits" is "six"'),
        (FIELD % '{"box": [1, 2, 3, 4], "cells": 2, "digits": 3}', '3 "digits" but only 2'),
        (FIELD % '{"box": [1, 2, 3, 4], "required": 1}', '"required" is 1'),
    ],
)
def test_a_wrong_description_is_refused_with_the_place(workplace, text, words):
    (workplace / "form.json").write_text(text)
    with pytest.raises(UsageError) as error:
        description.load(workplace / "form.json")
    assert str(error.value).startswith(str(workplace / "form.json")) and words in str(error.value)
    assert "\n" not in str(error.value)


def test_a_description_is_saved_as_it_is_loaded(workplace):
    fields = {'Größe "x"': description.Field((1, 2, 3, 4)), "B": description.Field((5, 6, 7, 8), 4, 3, True)}
    one = description.Form(workplace / "a.png", 0, fields)
    other = description.Form(workplace / "a.pdf", 2, {"C": description.Field((1, 2, 3, 4))})
    for saved in ([one], [one, other]):
        description.save(saved, workplace / "form.json")
        assert description.load(workplace / "form.json") == saved


# Alignment


def test_sheets_are_aligned_and_other_pages_are_not():
    rng, title = np.random.default_rng(2), "Order form"
    form = align.reference(align.without_shadows(drawn.blank(title)))
    blank = {name: field.box for name, field in drawn.describe(title, None).fields.items()}
    page = drawn.filled(title, drawn.random_values(title, rng), rng)
    for make, turn in ((drawn.scanned, 1), (drawn.photographed, 2)):
        sheet = align.without_shadows(np.asarray(Image.open(io.BytesIO(make(page, rng, turn)))))
        aligned = align.align(form, sheet)
        for box in blank.values():
            crop, printed = align.cut_out(form.picture, sheet, aligned, box, 4)
            dark = printed.min(-1) < 190
            assert crop.min(-1)[dark].mean() < 210  # the printed lines are where the form has them
    for other in (
        np.full((1754, 1240, 3), 255, np.uint8),
        drawn.blank("Answer sheet"),
        np.zeros((5, 900, 3), np.uint8),
    ):
        with pytest.raises(align.NotAligned):
            align.align(form, align.without_shadows(other))
    with pytest.raises(UsageError, match="too little"):
        align.reference(np.full((100, 100, 3), 255, np.uint8))


# The table


def test_a_folder_becomes_a_table(sample, forms_read, capsys):
    shutil.move("scans/2.jpg", "scans/=2+5.jpg")
    shutil.move("scans/5.jpg", 'scans/<b>5, "x".jpg')
    (sample / "scans" / "empty.png").write_bytes(b"")
    (sample / "scans" / "broken.pdf").write_bytes(b"not a PDF")
    Image.fromarray(drawn.blank("Answer sheet")).save("scans/wrong.png")
    shutil.copy("order_form.png", "scans/unfilled.png")
    (sample / "scans" / "notes.txt").write_text("x")
    assert forms_read("order_form.json", "scans") == 2
    out, err = capsys.readouterr()
    assert out.splitlines()[-1].startswith("Read 6 of 9 sheets")
    for name in ("broken.pdf", "empty.png", "wrong.png"):
        assert f"error: scans/{name}: " in err
    assert len(err.splitlines()) == 4
    assert "notes.txt" in err
    rows = {row["file"]: row for row in rows_of("scans.csv")}
    assert len(rows) == 9
    for number, order in TRUTH.items():
        assert rows[f"scans/{number}.jpg"]["Order"] == order and not rows[f"scans/{number}.jpg"]["error"]
    assert {"scans/=2+5.jpg", 'scans/<b>5, "x".jpg'} < set(rows)
    assert (
        rows["scans/wrong.png"]["error"] == "it is another form" and "Order; Date" in rows["scans/wrong.png"]["review"]
    )
    unfilled = {key: text for key, text in rows["scans/unfilled.png"].items() if key not in ("file", "page")}
    assert set(unfilled.values()) == {""}  # an empty field is not a digit
    page = (sample / "scans_review.html").read_text()
    assert "<b>5" not in page and "http" not in page.replace("http-equiv", "")


def test_what_is_doubtful(shipped):
    rng = np.random.default_rng(1)

    def reading_of(number):
        picture = drawn.form_fields.filled(number, rng, "comb")
        known = read.sheets.FormField(cells=len(number))
        return read.reader.classify([read.reader.segment(picture, field=known)], shipped)[0]

    def ask(number, **field):
        return read.find_doubt(description.Field((0, 0, 1, 1), **field), reading_of(number), 0.9)

    assert ask("    ") == "" and ask("    ", required=True) == "empty"
    assert ask("71  ", cells=4, digits=4).startswith("2 digits, not 4")


def test_nothing_is_overwritten_and_runs_continue(sample, forms_read, capsys):
    shutil.move("scans/4.jpg", "4.jpg")
    shutil.move("scans/5.jpg", "5.jpg")
    assert forms_read("order_form.json", "scans") == 0
    first = (sample / "scans.csv").read_bytes(), (sample / "scans_review.html").read_bytes()
    capsys.readouterr()
    one_line(capsys, forms_read("order_form.json", "scans"), "scans.csv", "all 3 sheets", "--overwrite")
    one_line(capsys, forms_read("order_form.json", "scans", "--min-confidence", "0.5"), "scans_review.html")
    assert first == ((sample / "scans.csv").read_bytes(), (sample / "scans_review.html").read_bytes())
    shutil.move("4.jpg", "scans/4.jpg")
    with open("scans_review.html", "ab") as file:  # what a crash leaves
        file.write(b'<script type="application/json" class="sheet">{"cells": ["scans/4')
    assert forms_read("order_form.json", "scans", "--json") == 0
    assert [json.loads(line)["file"] for line in capsys.readouterr().out.splitlines()] == ["scans/4.jpg"]
    assert (sample / "scans.csv").read_bytes().startswith(first[0])
    complete = (sample / "scans.csv").read_bytes()
    (sample / "scans.csv").unlink()  # the page has all that is needed to write it again
    assert forms_read("order_form.json", "scans") == 2
    assert (sample / "scans.csv").read_bytes() == complete
    (sample / "scans_review.html").unlink()
    capsys.readouterr()
    one_line(capsys, forms_read("order_form.json", "scans"), "scans.csv")
    (sample / "scans.csv").write_text("mine")
    one_line(capsys, forms_read("order_form.json", "scans"), "scans.csv")
    assert (sample / "scans.csv").read_text() == "mine"
    assert forms_read("order_form.json", "scans/1.jpg", "--output", "scans.csv", "--overwrite") == 0
    assert len(rows_of("scans.csv")) == 1


def test_pages_of_one_sheet(workplace, forms_read, capsys):
    rng, fields = np.random.default_rng(3), {"Order form": "Order", "Answer sheet": "Student"}
    made, truth = [], {}
    for title, name in fields.items():
        Image.fromarray(drawn.blank(title)).save(f"{name}.png")
        form = drawn.describe(title, workplace / f"{name}.png")
        made.append(form._replace(fields={name: form.fields[name]._replace(required=True)}))
        values = drawn.random_values(title, rng)
        truth[name] = values[name]
        Image.open(io.BytesIO(drawn.scanned(drawn.filled(title, values, rng), rng))).save(f"{name}_sheet.png")
    description.save(made, workplace / "both.json")
    one, other = (Image.open(f"{name}_sheet.png").convert("RGB") for name in truth)
    one.save("sheets.pdf", save_all=True, append_images=[other, one], resolution=150)
    assert forms_read("both.json", "sheets.pdf") == 2
    first, second = rows_of("sheets.csv")
    assert {name: first[name] for name in truth} == truth and not first["error"]
    assert second["page"] == "3" and second["error"] == "page 2: missing" and second["review"] == "Student"
    assert "sheets.pdf page 3: page 2: missing" in capsys.readouterr().err


def test_scans_are_in_natural_order(workplace):
    for name in ("a10.png", "a9.png", ".hidden.png", "sub/b1.tif"):
        (workplace / name).parent.mkdir(exist_ok=True)
        (workplace / name).write_bytes(b"")
    sheets, others = pages.find_sheets(["."], 1)
    assert [sheet.file for sheet in sheets] == ["a9.png", "a10.png", "sub/b1.tif"] and not others
    assert len(pages.find_sheets(["."], 2)[0]) == 2


def test_a_form_keeps_its_pixels_and_a_sheet_is_reduced(workplace):
    Image.new("L", (5000, 4800), 255).save("large.png")
    page = pages.Page(workplace / "large.png")
    assert pages.open_form(page).shape == (4800, 5000, 3)
    assert pages.open_page(page).shape == (2400, 2500, 3)


def encrypted_pdf():
    parts = b"<< /Type /Catalog /Pages 2 0 R >>", b"<< /Type /Pages /Kids [] /Count 0 >>"
    lock = b"<< /Filter /Standard /V 1 /R 2 /O <%s> /U <%s> /P -4 >>" % (b"28" * 32, b"41" * 32)
    text, places = b"%PDF-1.4\n", []
    for number, part in enumerate((*parts, lock), 1):
        places.append(len(text))
        text += b"%d 0 obj\n%s\nendobj\n" % (number, part)
    table_of_places = b"".join(b"%010d 00000 n \n" % place for place in places)
    end = b"xref\n0 4\n0000000000 65535 f \n%s" % table_of_places
    trailer = b"trailer << /Size 4 /Root 1 0 R /Encrypt 3 0 R /ID [<00><00>] >>\nstartxref\n%d\n%%%%EOF" % len(text)
    return text + end + trailer


def test_wrong_usage_is_one_line(sample, forms_read, capsys):
    (sample / "locked.pdf").write_bytes(encrypted_pdf())
    Image.new("RGB", (800, 1000), "white").save("blank.png")
    (sample / "outside.json").write_text('{"form": "order_form.png", "fields": {"A": {"box": [1200, 10, 100, 20]}}}')
    (sample / "blank.json").write_text('{"form": "blank.png", "fields": {"A": {"box": [1, 1, 9, 9]}}}')
    (sample / "empty").mkdir()
    for flags, words in (
        (["find", "locked.pdf"], ["locked.pdf", "encrypted"]),
        (["find", "nowhere.png"], ["nowhere.png"]),
        (["find", "blank.png"], ["blank.png", "no rows of cells"]),
        (["read", "nowhere.json", "scans"], ["nowhere.json", "find"]),
        (["read", "outside.json", "scans"], ["outside.json", "'A'", "[1200, 10, 100, 20]", "1240×1754"]),
        (["read", "blank.json", "scans"], ["blank.json", "too little"]),
        (["read", "order_form.json", "nowhere"], ["nowhere"]),
        (["read", "order_form.json", "empty"], ["empty", "no scans"]),
        (["read", "order_form.png", "scans"], ["order_form.png", "JSON"]),
    ):
        run = forms.main if flags[0] == "find" else lambda flags: forms_read(*flags[1:])
        one_line(capsys, run(flags), *words)
    for flags in ([], ["look"], ["find"], ["read", "order_form.json"], ["read", "a.json", "b", "--output", "c.txt"]):
        with pytest.raises(SystemExit, match="2"):
            forms.main(flags)
    assert not list(sample.glob("*.csv")) and not list(sample.glob("*.html"))


@pytest.mark.parametrize("text", ["=1+1", "+1", "-42", "@x", "\t=1"])
def test_a_cell_is_never_a_formula(text):
    assert table.as_cell(text) == f"'{text}"
    assert table.as_cell(f"4{text}") == f"4{text}"


@pytest.mark.slow
def test_measure(workplace, shipped, capsys):
    assert measure.main(["--count", "1", "--model", str(shipped)]) == 0
    out = capsys.readouterr().out
    assert "8 of 8 fields proposed" in out and "14 of 14 fields proposed" in out
    assert out.count("sheets aligned: 1 of 1") == 2 and "Fields read correctly: " in out


@pytest.mark.slow
def test_ctrl_c_keeps_the_rows_that_are_done(sample, shipped):
    for index in range(6, 46):
        shutil.copy(f"scans/{index % 5 + 1}.jpg", f"scans/{index}.jpg")
    command = [sys.executable, "-m", "extras.forms", "read", "order_form.json", "scans", "--model", str(shipped)]
    environment = os.environ | {"PYTHONPATH": str(PROJECT)}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    for _ in range(600):
        if (sample / "scans.csv").exists() and len((sample / "scans.csv").read_text().splitlines()) > 10:
            break
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    done = len(rows_of("scans.csv"))
    assert (
        process.returncode == 130
        and err == f"forms: interrupted; {done} of 45 sheets are in scans.csv, the same command reads the others\n"
    )
    assert subprocess.run(command, env=environment, capture_output=True, timeout=120).returncode == 0
    rows = rows_of("scans.csv")
    assert len(rows) == len({row["file"] for row in rows}) == 45

import json
import re
import shutil
import subprocess
import sys
import timeit
import urllib.request
import zipfile
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import evaluate
import predict
from digits import model, runtimes
from digits.cli import UsageError
from digits.reading import reader
from extras import export
from tests.conftest import PROJECT, one_line, serving

SAMPLES = [str(PROJECT / "samples" / name) for name in ("5.png", "2_chalk.jpg", "number.jpg", "tick.png")]
DIGITS, LETTERS = list("0123456789"), list("abcdefghij")
ONNX = pytest.param("onnx", marks=pytest.mark.slow)


def answers(script, capsys, *flags):
    """The JSON objects that a script prints, a line each."""
    assert script.main(["--json", *map(str, flags)]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    return [json.loads(line) for line in out.splitlines()]


@pytest.mark.parametrize("kind", ["tflite", ONNX, pytest.param("int8", marks=pytest.mark.slow)])
def test_the_same_answers_and_scores(kind, exported, shipped, small_folder, capsys):
    files, tolerance = (shipped, exported(kind)), 0.2 if kind == "int8" else 1e-4
    for expected, found in zip(*(answers(predict, capsys, "--model", file, *SAMPLES) for file in files), strict=True):
        assert expected.keys() == found.keys()
        for key in ("path", "prediction", "number", "is_digit"):
            assert expected[key] == found[key]
        assert [digit["box"] for digit in expected["digits"]] == [digit["box"] for digit in found["digits"]]
        assert found["probabilities"] == pytest.approx(expected["probabilities"], abs=tolerance)
        assert found["digit_score"] == pytest.approx(expected["digit_score"], abs=tolerance)
    descriptions = [model.load(file)[1:] for file in files]  # class names, threshold, whether to segment
    assert descriptions[0] == descriptions[1]
    if kind != "int8":
        (expected,), (found,) = (answers(evaluate, capsys, "--data", small_folder, "--model", file) for file in files)
        assert found["confusion_matrix"] == expected["confusion_matrix"]
        assert found["loss"] == pytest.approx(expected["loss"], abs=1e-5)


WITHOUT_TENSORFLOW = """
import sys
sys.modules["tensorflow"] = sys.modules["keras"] = sys.modules["matplotlib"] = None  # importing them is an error
import predict
sys.exit(predict.main())
"""


@pytest.mark.parametrize("kind", ["tflite", ONNX])
def test_without_tensorflow_and_matplotlib(kind, exported, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(PROJECT))
    command = [sys.executable, "-c", WITHOUT_TENSORFLOW, "--model", str(exported(kind)), *SAMPLES]
    process = subprocess.run([*command, "--json"], capture_output=True, text=True)
    assert (process.returncode, process.stderr) == (0, "")
    assert [json.loads(line)["number"] for line in process.stdout.splitlines()] == ["5", "2", "40628", ""]
    process = subprocess.run(command, capture_output=True, text=True)
    assert process.returncode == 2 and len(process.stderr.splitlines()) == 1 and "matplotlib" in process.stderr


@pytest.mark.slow
def test_a_saved_model_for_tensorflow_serving(exported, shipped):
    import tensorflow as tf

    version = exported("saved_model") / "1"
    about = json.loads((version / "assets.extra" / "digits.json").read_text())
    assert about == {"classes": DIGITS, "threshold": model.load(shipped).threshold, "segment": True}
    (tensor,) = tf.saved_model.load(version).signatures["serving_default"](tf.zeros((2, 28, 28, 3))).values()
    assert tensor.shape == (2, 10)


def test_an_export_is_kept_only_if_it_answers_as_the_model(shipped, small_folder, workplace, monkeypatch, capsys):
    """It replaces an older file, which is kept, or becomes the next version of a SavedModel."""
    shutil.copy(shipped, "m.keras")
    network = model.load(shipped).network
    monkeypatch.setattr(timeit, "repeat", lambda *arguments, **options: [0.1])
    monkeypatch.setitem(export.PACKAGES, "litert", [])

    def convert(network, target, *_):
        target.write_bytes(b"new") if target.suffix else target.mkdir()

    monkeypatch.setattr(export, "convert", convert)
    for to in ("litert", "saved_model"):
        monkeypatch.setattr(export, "open_export", lambda path: lambda pixels: np.eye(10)[[0] * 100])
        assert export.main(["--model", "m.keras", "--data", str(small_folder), "--to", to]) == 1
        assert "does not answer as the model does" in capsys.readouterr().err
        assert [path.name for path in workplace.iterdir()] == ["m.keras"]
    monkeypatch.setattr(export, "open_export", lambda path: lambda pixels: np.asarray(network(pixels)))
    (workplace / "m.tflite").write_bytes(b"old")
    for to in ("litert", "saved_model", "saved_model"):
        assert export.main(["--model", "m.keras", "--data", str(small_folder), "--to", to]) == 0
        assert "same answer on 100 of 100 images" in capsys.readouterr().out
    assert [(workplace / f"m{suffix}.tflite").read_bytes() for suffix in ("", ".previous")] == [b"new", b"old"]
    assert {path.name for path in (workplace / "m_saved_model").iterdir()} == {"1", "2"}
    assert not list(workplace.glob(".*"))


@pytest.mark.parametrize("kind", ["tflite", ONNX])
def test_a_model_of_other_classes_is_compared_on_its_own_images(kind, exported, workplace, folder, capsys):
    exported(kind)  # skips if a package is missing
    folder.rename("letters")
    about = {"classes": LETTERS, "threshold": 0.25, "data": {"name": "letters"}}
    model.save(model.build("dense64"), workplace / "letters_dense64.keras", about)
    assert export.main(["--model", "letters_dense64.keras", "--to", kind.replace("tflite", "litert")]) == 0
    out = capsys.readouterr().out
    assert "100 test images of letters" in out and "The same answer on 100 of 100 images" in out
    assert re.fullmatch(rf"Exported letters_dense64\.{kind} \(\d{{3}} kB\)", out.splitlines()[-1])
    loaded = model.load(f"letters_dense64.{kind}")
    assert loaded[1:] == (LETTERS, 0.25, True) and loaded.network.input_shape == (None, 28, 28, 1)


@pytest.mark.parametrize("kind", ["tflite", ONNX])
def test_files_that_are_refused(kind, exported, workplace, capsys):
    good, bad = exported(kind).read_bytes(), workplace / f"bad.{kind}"
    for content in (b"", b"a text", good[:1000], good[1000:]):
        bad.write_bytes(content)
        one_line(capsys, predict.main(["--model", str(bad), SAMPLES[0]]), bad.name)
    one_line(capsys, predict.main(["--model", f"none.{kind}", SAMPLES[0]]), "no such model file")


def test_a_tflite_file_without_a_description(exported, workplace):
    path, about = workplace / "bare.tflite", {"classes": LETTERS, "threshold": 0.3, "segment": False}
    with zipfile.ZipFile(exported("tflite")) as archive:
        start = min(info.header_offset for info in archive.infolist())
    path.write_bytes(exported("tflite").read_bytes()[:start])
    assert model.load(path)[1:] == (DIGITS, model.DEFAULT_THRESHOLD, True)
    path.with_suffix(".json").write_text(json.dumps(about))
    for name, text in (("labels.txt", "zero"), ("digits.json", json.dumps({"classes": ["a", "b"]}))):
        assert model.load(path)[1:] == tuple(about.values())  # another file inside it changes nothing
        with zipfile.ZipFile(path, "a") as archive:
            archive.writestr(name, text)
    with pytest.raises(UsageError, match=r"bare\.tflite: does not name the 10 classes.*export it again"):
        model.load(path)


def test_one_line_for_what_is_wrong(exported, workplace, monkeypatch, capsys):
    shutil.copy(exported("tflite"), "m.tflite")
    model.save(model.build("dense64"), workplace / "m.keras", {"classes": DIGITS})
    for flags, word in (("--to onnx --int8", "--int8"), ("--to litert --model m.tflite", "m.tflite"), ("", "--to")):
        with pytest.raises(SystemExit) as error:
            export.main(flags.split())
        one_line(capsys, error.value.code, word)
    one_line(capsys, export.main(["--to", "litert", "--model", "none.keras"]), "none.keras")
    one_line(capsys, export.main(["--to", "litert", "--model", "m.keras", "--data", "nowhere"]), "nowhere")
    (workplace / "m.onnx").mkdir()
    monkeypatch.setitem(export.PACKAGES, "onnx", [])
    one_line(capsys, export.main(["--to", "onnx", "--model", "m.keras"]), "m.onnx")
    monkeypatch.setitem(export.PACKAGES, "onnx", ["no-such-package"])
    one_line(capsys, export.main(["--to", "onnx", "--model", "m.keras"]), "no-such-package", "requirements-export.txt")
    for module in ("ai_edge_litert", "ai_edge_litert.interpreter"):
        monkeypatch.setitem(sys.modules, module, None)
    one_line(capsys, predict.main(["--model", "m.tflite", SAMPLES[0]]), "pip install ai-edge-litert")


@pytest.mark.parametrize("activation", [None, "sigmoid"])
def test_an_export_that_gives_no_probabilities_is_refused(activation, workplace):
    pytest.importorskip("ai_edge_litert", reason="pip install -r extras/requirements-export.txt")
    import keras
    import tensorflow as tf

    network = keras.Sequential([keras.Input((28, 28, 1)), keras.layers.Flatten(), keras.layers.Dense(10, activation)])
    (workplace / "other.tflite").write_bytes(tf.lite.TFLiteConverter.from_keras_model(network).convert())
    with pytest.raises(UsageError, match=r"other\.tflite: does not give probabilities"):
        model.load("other.tflite")


@pytest.mark.filterwarnings("ignore:Statistics for quantized inputs")
def test_numbers_that_are_not_float32_are_refused(workplace):
    pytest.importorskip("ai_edge_litert", reason="pip install -r extras/requirements-export.txt")
    import tensorflow as tf

    converter = tf.lite.TFLiteConverter.from_keras_model(model.build("cnn", filters=[4]))
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = lambda: ([np.zeros((1, 28, 28, 3), np.float32)] for _ in range(2))
    converter.inference_input_type = converter.inference_output_type = tf.uint8
    (workplace / "integers.tflite").write_bytes(converter.convert())
    with pytest.raises(UsageError, match=r"integers\.tflite"):
        runtimes.Exported(workplace / "integers.tflite")


@pytest.mark.slow
@pytest.mark.parametrize(("field", "value"), [("dim_value", 1), ("elem_type", 11)])  # a fixed batch; doubles
def test_other_onnx_files_are_refused(field, value, exported, workplace):
    path = exported("onnx")
    import onnx

    graph = onnx.load(path)
    tensor = graph.graph.input[0].type.tensor_type
    setattr(tensor.shape.dim[0] if field == "dim_value" else tensor, field, value)
    onnx.save(graph, "other.onnx")
    with pytest.raises(UsageError, match=r"other\.onnx: damaged"):
        runtimes.Exported(workplace / "other.onnx")


@pytest.mark.parametrize("kind", ["tflite", ONNX])
def test_threads_may_share_one(kind, exported):
    network = model.load(exported(kind)).network
    images = np.random.default_rng(0).integers(0, 256, (40, 28, 28, 1), dtype=np.uint8)
    expected = reader.predict(network, images)
    with ThreadPoolExecutor(4) as threads:
        results = list(threads.map(lambda _: reader.predict(network, images), range(40)))
    assert all(np.array_equal(result, expected) for result in results)


def test_the_service_reads_with_it(exported):
    service = pytest.importorskip("digits.web.service", reason="pip install -r requirements-draw.txt")
    picture = (PROJECT / "samples" / "number.jpg").read_bytes()
    with serving(service.make_app(exported("tflite"))) as port:
        answer = json.load(urllib.request.urlopen(f"http://127.0.0.1:{port}/predict", picture))
    assert answer["number"] == "40628"

import json
import shutil
import subprocess
import sys
import urllib.request
import zipfile
from concurrent.futures import ThreadPoolExecutor

import keras
import numpy as np
import pytest

import evaluate
import predict
from digits import model, runtimes
from digits.cli import UsageError
from digits.reading import reader
from extras import export
from tests.conftest import PROJECT, one_line, serving

pytest.importorskip(
    "ai_edge_litert", reason="ai_edge_litert is not installed: pip install -r extras/requirements-export.txt"
)
pytest.importorskip("onnxruntime", reason="onnxruntime is not installed: pip install -r extras/requirements-export.txt")
if tuple(map(int, keras.__version__.split(".")[:2])) < (3, 13):
    pytest.skip("this Keras does not export to LiteRT", allow_module_level=True)

SAMPLES = [str(PROJECT / "samples" / name) for name in ("5.png", "2_chalk.jpg", "number.jpg", "tick.png")]


@pytest.fixture
def files(exported):
    return exported


def readings(model_file, capsys):
    assert predict.main(["--json", "--model", str(model_file), *SAMPLES]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    return [json.loads(line) for line in out.splitlines()]


@pytest.mark.parametrize("kind", ["tflite", "onnx", "int8.tflite"])
def test_the_same_answers_and_refusals(kind, files, shipped, capsys):
    for ours, theirs in zip(readings(shipped, capsys), readings(files[kind], capsys), strict=True):
        assert ours.keys() == theirs.keys()
        for key in ("path", "prediction", "number", "is_digit"):
            assert ours[key] == theirs[key]
        assert [digit["box"] for digit in ours["digits"]] == [digit["box"] for digit in theirs["digits"]]
        near = 0.2 if "int8" in kind else 1e-4
        assert theirs["probabilities"] == pytest.approx(ours["probabilities"], abs=near)
        assert theirs["digit_score"] == pytest.approx(ours["digit_score"], abs=near)
    assert model.load(files[kind])[1:] == model.load(shipped)[1:]  # names, threshold, kind of picture


WITHOUT_TENSORFLOW = """
import sys
sys.modules["tensorflow"] = sys.modules["keras"] = sys.modules["matplotlib"] = None  # importing them is an error
sys.path.insert(0, sys.argv.pop(1))
import predict
sys.exit(predict.main())
"""


@pytest.mark.parametrize("kind", ["tflite", "onnx"])
def test_without_tensorflow_and_matplotlib(kind, files):
    command = [sys.executable, "-c", WITHOUT_TENSORFLOW, str(PROJECT), "--json", "--model", str(files[kind]), *SAMPLES]
    process = subprocess.run(command, capture_output=True, text=True)
    assert (process.returncode, process.stderr) == (0, "")
    assert [json.loads(line)["number"] for line in process.stdout.splitlines()] == ["5", "2", "40628", ""]
    command.remove("--json")
    process = subprocess.run(command, capture_output=True, text=True)
    assert process.returncode == 2 and len(process.stderr.splitlines()) == 1 and "matplotlib" in process.stderr


def test_evaluate_scores_them(files, trained, drawn_folder, shipped, capsys):
    results = []
    for path in (shipped, files["tflite"], files["onnx"]):
        assert evaluate.main(["--data", str(drawn_folder), "--model", str(path), "--json"]) == 0
        results.append(json.loads(capsys.readouterr().out))
    assert results[0]["confusion_matrix"] == results[1]["confusion_matrix"] == results[2]["confusion_matrix"]
    assert results[1]["loss"] == pytest.approx(results[0]["loss"], abs=1e-5)


def test_a_saved_model_for_tensorflow_serving(files, shipped):
    import tensorflow as tf

    version = files["saved_model"] / "1"
    about = json.loads((version / "assets.extra" / "digits.json").read_text())
    assert about["classes"] == list("0123456789") and about["threshold"] == model.load(shipped).threshold
    loaded = tf.saved_model.load(version)
    (tensor,) = loaded.signatures["serving_default"](tf.zeros((2, 28, 28, 3))).values()
    assert tensor.shape == (2, 10)


def test_a_replaced_export_is_kept(shipped, workplace, capsys):
    for suffix in (".keras", ".json"):
        shutil.copy(shipped.with_suffix(suffix), workplace / f"m{suffix}")
    (workplace / "m.tflite").write_bytes(b"old")
    assert export.main(["--model", "m.keras", "--to", "litert"]) == 0
    out = capsys.readouterr().out
    assert "the same answer on 1,000 of 1,000 images" in out.lower() and "m.tflite (38" in out.splitlines()[-1]
    assert (workplace / "m.previous.tflite").read_bytes() == b"old"
    for version in ("1", "2"):
        assert export.main(["--model", "m.keras", "--to", "saved_model"]) == 0
        assert (workplace / "m_saved_model" / version / "saved_model.pb").exists()
    assert not [path for path in workplace.rglob(".*")]


def test_an_export_with_other_answers_is_not_kept(shipped, workplace, monkeypatch, capsys):
    shutil.copy(shipped, "m.keras")
    call = runtimes.Exported.__call__
    monkeypatch.setattr(runtimes.Exported, "__call__", lambda self, pixels: call(self, pixels[:, ::-1]))
    assert export.main(["--model", "m.keras", "--to", "litert"]) == 1
    assert "does not answer as the model does" in capsys.readouterr().err
    assert [path.name for path in workplace.iterdir()] == ["m.keras"]


def test_a_model_of_other_classes_is_compared_on_its_own_images(workplace, folder, capsys):
    (workplace / "small").rename("letters")
    about = {"classes": list("abcdefghij"), "threshold": 0.25, "data": {"name": "letters"}}
    model.save(model.build("dense64"), workplace / "letters_dense64.keras", about)
    for to in ("litert", "onnx"):
        assert export.main(["--model", "letters_dense64.keras", "--to", to]) == 0
        assert "100 test images of letters" in capsys.readouterr().out
    for suffix in (".tflite", ".onnx"):
        loaded = model.load(f"letters_dense64{suffix}")
        assert loaded.classes == list("abcdefghij") and loaded.threshold == 0.25
        assert loaded.network.input_shape == (None, 28, 28, 1)


@pytest.mark.parametrize("suffix", [".tflite", ".onnx"])
def test_files_that_are_refused(suffix, files, workplace, capsys):
    path = workplace / f"bad{suffix}"
    good = files[suffix[1:]].read_bytes()
    for content in (b"", b"a text", good[:1000], good[1000:]):
        path.write_bytes(content)
        assert predict.main(["--model", str(path), SAMPLES[0]]) == 2
        err = capsys.readouterr().err
        assert len(err.splitlines()) == 1 and f"bad{suffix}" in err
    assert predict.main(["--model", f"none{suffix}", SAMPLES[0]]) == 2
    assert "no such model file" in capsys.readouterr().err


def test_a_file_without_a_description_has_default_names(files, workplace):
    bare = workplace / "bare.tflite"
    with zipfile.ZipFile(files["tflite"]) as archive:
        start = min(info.header_offset for info in archive.infolist())
    bare.write_bytes(files["tflite"].read_bytes()[:start])
    assert model.load(bare)[1:] == (list("0123456789"), model.DEFAULT_THRESHOLD, True)
    (workplace / "bare.json").write_text(
        json.dumps({"classes": list("abcdefghij"), "threshold": 0.3, "segment": False})
    )
    assert model.load(bare)[1:] == (list("abcdefghij"), 0.3, False)


def test_one_line_for_what_is_wrong(shipped, workplace, monkeypatch, capsys, files):
    shutil.copy(files["tflite"], "m.tflite")
    for flags, word in (
        (["--to", "litert", "--model", "none.keras"], "none.keras"),
        (["--to", "litert", "--model", "m.tflite"], "m.tflite"),
        (["--to", "litert", "--data", "nowhere", "--model", str(shipped)], "nowhere"),
    ):
        one_line(capsys, export.main(flags), word)
    for flags, word in ((["--to", "onnx", "--int8"], "--int8"), ([], "--to")):
        with pytest.raises(SystemExit) as error:
            export.main(flags)
        one_line(capsys, error.value.code, word)
    monkeypatch.setitem(sys.modules, "ai_edge_litert", None)
    monkeypatch.setitem(sys.modules, "ai_edge_litert.interpreter", None)
    one_line(capsys, predict.main(["--model", "m.tflite", SAMPLES[0]]), "pip install ai-edge-litert")


def test_numbers_that_are_not_float32_are_refused(workplace, shipped):
    import tensorflow as tf

    network = model.load(shipped).network
    converter = tf.lite.TFLiteConverter.from_keras_model(network)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = lambda: ([np.zeros((1, 28, 28, 3), np.float32)] for _ in range(2))
    converter.inference_input_type = converter.inference_output_type = tf.uint8
    (workplace / "whole.tflite").write_bytes(converter.convert())
    with pytest.raises(UsageError, match=r"whole\.tflite"):
        runtimes.Exported(workplace / "whole.tflite")


def test_onnx_files_of_others_that_cannot_be_used_are_refused(files, workplace):
    import onnx

    for name, change in (("batch", 1), ("doubles", onnx.TensorProto.DOUBLE)):
        graph = onnx.load(files["onnx"])
        tensor = graph.graph.input[0].type.tensor_type
        if name == "batch":
            tensor.shape.dim[0].dim_value = change
        else:
            tensor.elem_type = change
        onnx.save(graph, f"{name}.onnx")
        with pytest.raises(UsageError, match=rf"{name}\.onnx: damaged"):
            runtimes.Exported(f"{name}.onnx")


def test_other_files_inside_a_tflite_file_do_no_harm(files, workplace):
    with_labels = workplace / "labels.tflite"
    with zipfile.ZipFile(files["tflite"]) as archive:
        start = min(info.header_offset for info in archive.infolist())
    with_labels.write_bytes(files["tflite"].read_bytes()[:start])
    with zipfile.ZipFile(with_labels, "a") as archive:
        archive.writestr("labels.txt", "zero")
    assert model.load(with_labels).classes == list("0123456789")
    with zipfile.ZipFile(with_labels, "a") as archive:
        archive.writestr("digits.json", json.dumps({"classes": ["a", "b"]}))
    with pytest.raises(UsageError, match=r"labels\.tflite: does not name the 10 classes.*export it again"):
        model.load(with_labels)


@pytest.mark.parametrize("kind", ["tflite", "onnx"])
def test_threads_may_share_one(kind, files):
    network = model.load(files[kind]).network
    images = np.random.default_rng(0).integers(0, 256, (40, 28, 28, 1), dtype=np.uint8)
    expected = reader.predict(network, images)
    with ThreadPoolExecutor(4) as threads:
        answers = list(threads.map(lambda _: reader.predict(network, images), range(40)))
    assert all(np.array_equal(answer, expected) for answer in answers)


def test_the_service_reads_with_them(files):
    pytest.importorskip("fastapi")
    from digits.web import service

    picture = (PROJECT / "samples" / "number.jpg").read_bytes()
    with serving(service.make_app(files["tflite"])) as port:
        answer = json.load(urllib.request.urlopen(f"http://127.0.0.1:{port}/predict", picture))
    assert answer["number"] == "40628"

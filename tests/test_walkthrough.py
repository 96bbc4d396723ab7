"""The lesson in extras/walkthrough.ipynb runs from top to bottom, its answers too, and is kept with its outputs."""

import re
import shutil

import pytest

pytest.importorskip("nbclient", reason="nbclient is not installed: pip install -r requirements-all.txt")
pytest.importorskip("ipykernel", reason="ipykernel is not installed: pip install -r requirements-all.txt")

import nbformat
from ipykernel.kernelspec import write_kernel_spec
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from nbformat.v4 import new_code_cell

from tests.conftest import PROJECT, png_folder

LESSON = PROJECT / "extras" / "walkthrough.ipynb"
SMALL = {"EPOCHS": "2", "IMAGES": "250"}  # in place of the lesson's settings
MAX_BYTES = 1_000_000


def lesson():
    return nbformat.read(LESSON, as_version=4)


def sections(notebook):
    """The cells of each section, by its question."""
    found = {}
    for cell in notebook.cells:
        if cell.cell_type == "markdown" and cell.source.startswith("## "):
            mine = found[cell.source.splitlines()[0][3:]] = []
        if found:
            mine.append(cell)
    return {question: cells for question, cells in found.items() if question.endswith("?")}


def code_cells(cells):
    return [cell for cell in cells if cell.cell_type == "code"]


def answers(cells):
    """The programs in the folded answers of the cells."""
    text = "\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
    folded = re.findall(r"<details><summary>Answer</summary>\n\n(.*?)\n\n</details>", text, re.DOTALL)
    assert len(folded) == text.count("<details>") == text.count("</details>")
    return [program for answer in folded for program in re.findall(r"```python\n(.*?)```", answer, re.DOTALL)]


def figures(cell):
    return [output for output in cell.outputs if "image/png" in output.get("data", {})]


def noise(cells):
    """What the cells wrote to stderr, and their errors."""
    outputs = [output for cell in code_cells(cells) for output in cell.outputs]
    return [o for o in outputs if o.output_type == "error" or o.get("name") == "stderr"]


@pytest.fixture
def jupyter(workplace, monkeypatch):
    """Notebooks run in the Python of the tests, whatever kernels and settings the user has."""
    write_kernel_spec(workplace / "jupyter" / "kernels" / "python3")
    monkeypatch.setenv("JUPYTER_PATH", str(workplace / "jupyter"))
    monkeypatch.setenv("IPYTHONDIR", str(workplace / "ipython"))
    monkeypatch.delenv("MPLBACKEND", raising=False)


@pytest.fixture
def project(workplace):
    """A copy of what the lesson needs of the project, with little data."""
    copy = workplace / "project"
    no_caches = shutil.ignore_patterns("__pycache__", "*.tmp")
    for folder in ("digits", "extras", "samples"):
        shutil.copytree(PROJECT / folder, copy / folder, ignore=no_caches)
    for path in [*PROJECT.glob("*.py"), PROJECT / "mnist_cnn.keras", PROJECT / "mnist_cnn.json"]:
        shutil.copy(path, copy)
    png_folder(copy / "Mnist_dataset")
    return copy


def execute(notebook, folder):
    resources = {"metadata": {"path": str(folder)}}
    return NotebookClient(notebook, timeout=300, kernel_name="python3", resources=resources).execute()


def files_in(folder):
    paths = [path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    return {path: path.read_bytes() for path in paths}


@pytest.mark.slow
def test_it_runs_from_top_to_bottom_and_so_do_its_answers(jupyter, project):
    notebook, before = lesson(), files_in(project)
    for setting, value in SMALL.items():
        first = code_cells(notebook.cells)[0]
        first.source, count = re.subn(rf"(?m)^{setting} = \S+", f"{setting} = {value}", first.source)
        assert count == 1
    cells = []
    for cell in notebook.cells:
        cells += [cell, *map(new_code_cell, answers([cell]))]
    notebook.cells = cells
    execute(notebook, project / "extras")  # raises CellExecutionError
    assert noise(notebook.cells) == []
    for question, mine in sections(notebook).items():
        assert len(figures(code_cells(mine)[0])) == 1, question
    assert files_in(project) == before


@pytest.mark.slow
def test_it_finds_the_project_or_says_that_it_cannot(jupyter, project, workplace):
    notebook = lesson()
    notebook.cells = [code_cells(notebook.cells)[0], new_code_cell("import train; print(train.__file__)")]
    execute(notebook, project)
    assert notebook.cells[1].outputs[0].text.strip() == str(project / "train.py")
    elsewhere = workplace / "far" / "away"
    elsewhere.mkdir(parents=True)
    with pytest.raises(CellExecutionError, match=r"train\.py was not found"):
        execute(notebook, elsewhere)


def test_it_is_kept_with_its_outputs():
    assert LESSON.stat().st_size < MAX_BYTES
    notebook = lesson()
    nbformat.validate(notebook)
    assert (notebook.nbformat, notebook.nbformat_minor) == (4, 5)
    assert notebook.metadata.kernelspec.name == "python3"
    code = code_cells(notebook.cells)
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    assert noise(notebook.cells) == []
    assert all(not cell.metadata for cell in notebook.cells)  # no times
    for cell in code:
        for output in cell.outputs:
            text = output.get("text", "") + output.get("data", {}).get("text/plain", "")
            assert not re.search(r"/home/|/root|/tmp|/Users/|[A-Z]:\\", text)


def test_each_section_is_a_question_a_figure_and_an_exercise_with_its_answer():
    found = sections(lesson())
    assert len(found) >= 10
    for question, cells in found.items():
        assert len(code_cells(cells)) == 1, question
        assert len(figures(code_cells(cells)[0])) == 1, question
        assert sum(cell.source.startswith("**Exercise.**") for cell in cells) == 1, question
        assert len(answers(cells)) == 1, question
        assert len(code_cells(cells)[0].source.splitlines()) <= 25, question

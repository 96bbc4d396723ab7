"""The lesson in extras/walkthrough.ipynb runs from top to bottom, with its answers, and is stored with its outputs."""

import re
import shutil

import pytest

pytest.importorskip("nbclient", reason="pip install -r requirements-all.txt")
pytest.importorskip("ipykernel", reason="pip install -r requirements-all.txt")

import nbformat
from ipykernel.kernelspec import write_kernel_spec
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from nbformat.v4 import new_code_cell

from tests.conftest import PROJECT, png_folder

LESSON = PROJECT / "extras" / "walkthrough.ipynb"


def code_cells(cells):
    return [cell for cell in cells if cell.cell_type == "code"]


def cells_by_question(notebook):
    found = {}
    for cell in notebook.cells:
        if cell.cell_type == "markdown" and cell.source.startswith("## "):
            section = found[cell.source.splitlines()[0]] = []
        if found:
            section.append(cell)
    return {question: cells for question, cells in found.items() if question.endswith("?")}


def answer_programs(cell):
    folded = re.findall(r"<details><summary>Answer</summary>\n\n(.*?)\n\n</details>", cell.source, re.DOTALL)
    assert len(folded) == cell.source.count("<details>") == cell.source.count("</details>")
    return [program for answer in folded for program in re.findall(r"```python\n(.*?)```", answer, re.DOTALL)]


def assert_one_figure_each(notebook):
    """One figure in each section, and no errors or warnings anywhere."""
    for question, cells in cells_by_question(notebook).items():
        outputs = code_cells(cells)[0].outputs
        assert sum("image/png" in output.get("data", {}) for output in outputs) == 1, question
    outputs = [output for cell in code_cells(notebook.cells) for output in cell.outputs]
    assert not [o for o in outputs if o.output_type == "error" or o.get("name") == "stderr"]


@pytest.fixture
def notebook():
    return nbformat.read(LESSON, as_version=4)


@pytest.fixture
def project(workplace, monkeypatch):
    """A copy of what the lesson needs of the project, with little data, and the Python of the tests as Jupyter's."""
    write_kernel_spec(workplace / "jupyter" / "kernels" / "python3")
    monkeypatch.setenv("JUPYTER_PATH", str(workplace / "jupyter"))
    monkeypatch.setenv("IPYTHONDIR", str(workplace / "ipython"))
    monkeypatch.delenv("MPLBACKEND", raising=False)
    copy = workplace / "project"
    for folder in ("digits", "extras", "samples"):
        shutil.copytree(PROJECT / folder, copy / folder, ignore=shutil.ignore_patterns("__pycache__", "*.tmp"))
    for path in [*PROJECT.glob("*.py"), PROJECT / "mnist_cnn.keras", PROJECT / "mnist_cnn.json"]:
        shutil.copy(path, copy)
    png_folder(copy / "Mnist_dataset")
    return copy


def execute(notebook, folder):
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(folder)}}).execute()


def files_in(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.suffix != ".pyc"}


@pytest.mark.slow
def test_it_runs_from_top_to_bottom_and_so_do_its_answers(notebook, project):
    before, settings = files_in(project), code_cells(notebook.cells)[0]
    settings.source = settings.source.replace("EPOCHS = 5 ", "EPOCHS = 2 ").replace("IMAGES = 20_000 ", "IMAGES = 250 ")
    assert "EPOCHS = 2 " in settings.source and "IMAGES = 250 " in settings.source
    notebook.cells = [new for cell in notebook.cells for new in (cell, *map(new_code_cell, answer_programs(cell)))]
    execute(notebook, project / "extras")  # raises CellExecutionError
    assert_one_figure_each(notebook)
    assert files_in(project) == before


@pytest.mark.slow
def test_it_finds_the_project_or_says_that_it_cannot(notebook, project, workplace):
    notebook.cells = [code_cells(notebook.cells)[0], new_code_cell("import train; print(train.__file__)")]
    execute(notebook, project)
    assert notebook.cells[1].outputs[0].text.strip() == str(project / "train.py")
    (workplace / "far" / "away").mkdir(parents=True)
    with pytest.raises(CellExecutionError, match=r"train\.py was not found"):
        execute(notebook, workplace / "far" / "away")


def test_it_is_stored_with_its_outputs(notebook):
    assert LESSON.stat().st_size < 1_000_000
    nbformat.validate(notebook)
    assert (notebook.nbformat, notebook.nbformat_minor, notebook.metadata.kernelspec.name) == (4, 5, "python3")
    code = code_cells(notebook.cells)
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    assert_one_figure_each(notebook)
    assert all(not cell.metadata for cell in notebook.cells)  # no times
    for output in [output for cell in code for output in cell.outputs]:
        text = output.get("text", "") + output.get("data", {}).get("text/plain", "")
        assert not re.search(r"/home/|/root|/tmp|/Users/|[A-Z]:\\", text)


def test_each_section_is_a_question_a_figure_and_an_exercise_with_its_answer(notebook):
    assert len(cells_by_question(notebook)) >= 10
    for question, cells in cells_by_question(notebook).items():
        (code,) = code_cells(cells)
        assert len(code.source.splitlines()) <= 25, question
        assert sum(cell.source.startswith("**Exercise.**") for cell in cells) == 1, question
        assert sum(len(answer_programs(cell)) for cell in cells) == 1, question

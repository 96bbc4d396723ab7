import pytest

from extras.hostile import __main__ as hostile
from extras.hostile import inputs
from tests.conftest import posix

pytestmark = [pytest.mark.slow, posix]


def test_bad_input_is_refused_and_nothing_is_lost(capsys, monkeypatch):
    monkeypatch.setattr(inputs, "SECONDS", 60)  # the machine may be busy with other things
    pytest.importorskip("uvicorn", reason="pip install -r requirements-draw.txt")
    assert hostile.main(["--inputs", "15", "--kills", "0", "--seed", "5"]) == 0, capsys.readouterr().out


def test_killed_programs_leave_everything_whole(capsys):
    assert hostile.main(["--inputs", "0", "--kills", "2", "--seed", "5"]) == 0, capsys.readouterr().out

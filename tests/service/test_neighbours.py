import subprocess
import sys

import pytest

from service import neighbours
from service.neighbours import Neighbours

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="one process serves there")

WORKING = (
    "import sys, pathlib; from service.neighbours import Neighbours\n"
    "mine = Neighbours(pathlib.Path(sys.argv[1])); mine.working(True)\n"
    "print(mine.idle(), flush=True); sys.stdin.readline()\n"
    "mine.working(False); print('idle', flush=True); sys.stdin.readline()"
)


class Neighbour:
    """Another process of the server."""

    def __init__(self, folder):
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        self.process = subprocess.Popen([sys.executable, "-c", WORKING, folder], **pipes)
        self.saw_idle = self.process.stdout.readline().strip()

    def rest(self):
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        assert self.process.stdout.readline() == "idle\n"

    def kill(self):
        self.process.kill()
        self.process.communicate(timeout=60)


def test_each_sees_the_others_work_and_not_its_own(tmp_path, monkeypatch):
    mine = Neighbours(tmp_path)
    mine.working(True)
    assert mine.idle()
    other = Neighbour(tmp_path)
    try:
        assert (other.saw_idle, mine.idle()) == ("False", False)
        monkeypatch.setattr(neighbours, "LINGER", 60)
        other.rest()
        assert not mine.idle()  # it may be asked again at once
        monkeypatch.setattr(neighbours, "LINGER", 0)
        assert mine.idle()
    finally:
        other.kill()


def test_one_that_was_killed_at_work_is_forgotten_when_another_takes_its_place(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(neighbours, "LINGER", 0)
    mine = Neighbours(tmp_path)
    killed = Neighbour(tmp_path)
    killed.kill()
    successor = Neighbour(tmp_path)
    try:
        successor.rest()
        assert mine.idle()
    finally:
        successor.kill()

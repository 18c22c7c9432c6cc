import sys

from benchmarks.machine import command


def test_the_places_of_a_machine_are_not_told(monkeypatch):
    given = ["--rounds", "3", "--raw", "/home/me/raw", "--output=/home/me/o", "--only", "ours"]
    monkeypatch.setattr(sys, "argv", ["run.py", *given])
    assert command("benchmarks.run") == "python -m benchmarks.run --rounds 3 --only ours"

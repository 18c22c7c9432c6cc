import shutil
import tempfile
from types import SimpleNamespace

import pytest

from flatfold.contract.errors import FlatfoldError
from service.config import Settings
from service.shared import why_no_folder
from service.workers import serve_workers


def test_a_folder_that_can_be_written_and_has_room_will_do():
    assert why_no_folder() == ""


def test_too_little_room_is_told_with_what_is_needed(monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1_000_000))
    assert "has room for 1,000,000 bytes; expected 16,000,000 at least" in why_no_folder()
    with pytest.raises(FlatfoldError, match=r"room for 1,000,000 .*set TMPDIR, or docker run --t"):
        serve_workers(Settings(workers=2, port=0))


def test_no_folder_at_all_is_told(monkeypatch):
    def nowhere():
        raise FileNotFoundError("No usable temporary directory found in ['/tmp']")

    monkeypatch.setattr(tempfile, "gettempdir", nowhere)
    assert why_no_folder().startswith("No usable temporary directory")

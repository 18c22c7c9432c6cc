import errno
import os
import shutil
import tempfile
from types import SimpleNamespace

import pytest

from flatfold.contract.errors import FlatfoldError
from service.config import Settings
from service.shared import reserve, why_no_folder
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


@pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="room is reserved by it")
def test_room_is_reserved_without_loss_where_the_disk_has_some(tmp_path, monkeypatch):
    file = tmp_path / "file"
    file.write_bytes(b"here")
    reserve(file, 10)
    assert file.read_bytes() == b"here" + bytes(6)

    def fail(number):
        def allocate(*_):
            raise OSError(number, os.strerror(number))

        monkeypatch.setattr(os, "posix_fallocate", allocate)

    fail(errno.EOPNOTSUPP)
    reserve(file, 20)
    fail(errno.ENOSPC)
    with pytest.raises(FlatfoldError, match=r"cannot write .*file: No space left on device"):
        reserve(file, 20)

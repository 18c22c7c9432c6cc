from __future__ import annotations

import hashlib
import io
import tarfile
import threading
from typing import TYPE_CHECKING

import numpy as np
import pytest

from tests.training.archive_server import serving
from training.download import DownloadError, download_archive

if TYPE_CHECKING:
    from pathlib import Path

FILES = ("one.bin", "two.txt")
CONTENTS = (np.random.default_rng(0).bytes(700_000), b"cat\ndog\n")


def archive(**extra: bytes) -> bytes:
    """Return a .tar.gz with both files under pictures/, and whatever else."""
    named = {f"pictures/{name}": data for name, data in zip(FILES, CONTENTS, strict=True)}
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name, data in {**named, **extra}.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return buffer.getvalue()


ARCHIVE = archive()
MD5 = hashlib.md5(ARCHIVE, usedforsecurity=False).hexdigest()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "cache" / "pictures"


@pytest.fixture
def part(folder: Path) -> Path:
    folder.parent.mkdir()
    return folder.parent / "archive.tar.gz.part"


def assert_whole(folder: Path) -> None:
    assert tuple((folder / name).read_bytes() for name in FILES) == CONTENTS
    left = {path.name for path in folder.parent.iterdir()} - {"archive.tar.gz.lock"}
    assert left == {"pictures"}, "something half-written was left"


def test_a_whole_download(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with serving(ARCHIVE) as server:
        assert download_archive(server.url, MD5, FILES, folder) == folder
        assert f"downloading {server.url} from byte 0 of {len(ARCHIVE)}" in capfd.readouterr().err
    assert_whole(folder)


def test_what_is_there_is_not_fetched_again(folder: Path) -> None:
    with serving(ARCHIVE) as server:
        download_archive(server.url, MD5, FILES, folder)
        download_archive(server.url, MD5, FILES, folder)
        assert len(server.asked) == 1


def test_a_break_goes_on_from_the_byte_it_broke_at(folder: Path) -> None:
    with serving(ARCHIVE, breaks=[300_000, 1_000]) as server:
        download_archive(server.url, MD5, FILES, folder)
        assert server.asked == ["", "bytes=300000-", "bytes=301000-"]
    assert_whole(folder)


def test_a_later_run_goes_on_where_an_earlier_one_gave_up(folder: Path, part: Path) -> None:
    with serving(ARCHIVE, breaks=[1_000, 0]) as server:
        with pytest.raises(DownloadError, match="broke off after 1000 bytes"):
            download_archive(server.url, MD5, FILES, folder)
        assert part.read_bytes() == ARCHIVE[:1_000]
        assert not folder.exists()
        download_archive(server.url, MD5, FILES, folder)
        assert server.asked[-1] == "bytes=1000-"
    assert_whole(folder)


def test_a_server_without_ranges_starts_over(folder: Path, part: Path) -> None:
    part.write_bytes(ARCHIVE[:1_000])
    with serving(ARCHIVE, ranges=False) as server:
        download_archive(server.url, MD5, FILES, folder)
        assert server.asked == ["bytes=1000-"], "the whole file came, and nothing was fetched twice"
    assert_whole(folder)


@pytest.mark.parametrize("size", [1_000, len(ARCHIVE), len(ARCHIVE) + 5])
def test_a_damaged_earlier_piece_is_thrown_away(folder: Path, part: Path, size: int) -> None:
    part.write_bytes(b"\0" * size)
    with serving(ARCHIVE) as server:
        download_archive(server.url, MD5, FILES, folder)
    assert_whole(folder)


def test_a_whole_piece_of_an_earlier_run_is_only_unpacked(folder: Path, part: Path) -> None:
    part.write_bytes(ARCHIVE)
    with serving(ARCHIVE) as server:
        download_archive(server.url, MD5, FILES, folder)
    assert_whole(folder)


def test_wrong_bytes_tell_both_checksums_and_leave_nothing(folder: Path, part: Path) -> None:
    with (
        serving(b"<html>captive portal</html>") as server,
        pytest.raises(DownloadError, match=rf"MD5 is [0-9a-f]{{32}}, expected {MD5}"),
    ):
        download_archive(server.url, MD5, FILES, folder)
    assert not part.exists()
    assert not folder.exists()


def test_a_refusal_tells_the_status(folder: Path) -> None:
    with serving(ARCHIVE, status=404) as server, pytest.raises(DownloadError, match="answers 404"):
        download_archive(server.url, MD5, FILES, folder)


def test_no_server_at_all(folder: Path) -> None:
    with serving(ARCHIVE) as server:
        pass
    with pytest.raises(DownloadError, match=r"broke off after 0 bytes.*refused"):
        download_archive(server.url, MD5, FILES, folder)


def test_names_in_the_archive_cannot_choose_a_path(folder: Path) -> None:
    evil = archive(**{"../../evil.txt": b"x", "/evil.txt": b"x", "pictures/more.txt": b"x"})
    with serving(evil) as server:
        md5 = hashlib.md5(evil, usedforsecurity=False).hexdigest()
        download_archive(server.url, md5, FILES, folder)
    assert_whole(folder)
    assert not (folder / "more.txt").exists()
    assert not (folder.parents[1] / "evil.txt").exists()


@pytest.mark.parametrize("content", [ARCHIVE[:-200_000], b"not gzip", b"\x1f\x8b"])
def test_an_archive_that_does_not_unpack_leaves_no_folder(folder: Path, content: bytes) -> None:
    md5 = hashlib.md5(content, usedforsecurity=False).hexdigest()
    with serving(content) as server, pytest.raises(DownloadError, match="cannot unpack"):
        download_archive(server.url, md5, FILES, folder)
    assert not folder.exists()


def test_an_incomplete_folder_is_replaced(folder: Path) -> None:
    folder.mkdir(parents=True)
    (folder / FILES[0]).write_bytes(b"half")
    with serving(ARCHIVE) as server:
        download_archive(server.url, MD5, FILES, folder)
    assert_whole(folder)


def test_a_cache_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file, not a folder")
    with serving(ARCHIVE) as server, pytest.raises(DownloadError, match="cannot write"):
        download_archive(server.url, MD5, FILES, tmp_path / "cache" / "pictures")


def test_two_at_once_fetch_once(folder: Path) -> None:
    with serving(ARCHIVE) as server:
        threads = [
            threading.Thread(target=download_archive, args=(server.url, MD5, FILES, folder))
            for _ in range(2)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(server.asked) == 1
    assert_whole(folder)

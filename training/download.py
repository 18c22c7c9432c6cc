"""Downloading an archive so that a broken connection costs only what it broke.

What has arrived is kept in a `.part` file and the next connection, of this run or of a later one,
asks for the rest. Nothing is unpacked before the checksum is right, and the folder appears whole.
"""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import os
import shutil
import sys
import tarfile
import tempfile
import urllib.error
import urllib.request
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

from flatfold.contract.errors import FlatfoldError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tqdm import tqdm

try:
    import fcntl
except ImportError:  # Windows: two downloads at once are then the user's to avoid
    fcntl = None  # type: ignore[assignment] # the module or its absence

CHUNK_BYTES = 1 << 18
TIMEOUT_SECONDS = 30.0
RANGE_NOT_SATISFIABLE = 416
PARTIAL_CONTENT = 206


class DownloadError(FlatfoldError):
    """The archive could not be fetched, is not the one expected, or could not be unpacked."""


class _BrokenOffError(Exception):
    """The connection ended before the file did."""


def download_archive(url: str, md5: str, files: Sequence[str], folder: Path) -> Path:
    """Fetch a .tar.gz, check it and unpack some of its files as `folder`.

    Args:
        url: the archive's http or https address.
        md5: its MD5 in lower-case hexadecimal.
        files: the files wanted; the archive holds them under `folder`'s own name.
        folder: the folder to make; its parents are made too.

    Returns:
        `folder`, which holds all `files`; at once if it already does.

    Raises:
        DownloadError: not reachable, broken off, wrong checksum, or not to be unpacked or written.
    """
    part = folder.parent / f"{url.rsplit('/', 1)[-1]}.part"
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with _only_one(part.with_suffix(".lock")):
            if not all((folder / name).is_file() for name in files):
                _fetch_checked(url, md5, part)
                _unpack(part, files, folder)
                part.unlink()
    except OSError as error:
        raise DownloadError(f"cannot write {folder}: {error.strerror or error}") from error
    return folder


@contextlib.contextmanager
def _only_one(lock: Path) -> Iterator[None]:
    """Let one process in at a time: torchrun starts several that all want the data."""
    with lock.open("w") as file:
        if fcntl is not None:
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _fetch_checked(url: str, md5: str, part: Path) -> None:
    resumed = part.exists()
    _fetch(url, part)
    with part.open("rb") as file:
        got = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
    if got == md5:
        return
    part.unlink()
    if resumed:  # the earlier piece may have been damaged or of another file: start over, once
        _fetch_checked(url, md5, part)
        return
    raise DownloadError(
        f"{url} has the wrong content: its MD5 is {got}, expected {md5}; nothing was kept, "
        "try again or fetch the archive by other means and unpack it yourself"
    )


def _fetch(url: str, part: Path) -> None:
    """Connect until the file is whole or a connection brings nothing new."""
    furthest = -1
    while True:
        try:
            _receive(url, part)
        except _BrokenOffError as error:
            size = part.stat().st_size if part.exists() else 0
            if size <= furthest:
                raise DownloadError(
                    f"the download of {url} broke off after {size} bytes: {error}; "
                    "the same command goes on from there"
                ) from error
            furthest = size
        else:
            return


def _receive(url: str, part: Path) -> None:
    """Append to `part` what one connection brings.

    Raises:
        DownloadError: the server refuses.
        _BrokenOffError: no connection, or it ended too early.
    """
    have = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})  # noqa: S310 # the address is this program's own constant
    try:
        response = urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS)  # noqa: S310 # as above
    except urllib.error.HTTPError as error:
        if error.code == RANGE_NOT_SATISFIABLE:
            return  # there is no rest: the checksum decides
        raise DownloadError(f"{url} answers {error.code} {error.reason}") from error
    except (OSError, http.client.HTTPException) as error:
        raise _BrokenOffError(str(error)) from error
    with response:
        if response.status != PARTIAL_CONTENT:
            have = 0  # the server sends the whole file
        length = response.headers.get("Content-Length")
        total = have + int(length) if length else None
        with part.open("ab" if have else "wb") as file, _bar(url, have, total) as bar:
            for chunk in _chunks(response):
                file.write(chunk)
                bar.update(len(chunk))
                have += len(chunk)
    if total is not None and have < total:
        raise _BrokenOffError(f"the server sent {have} of {total} bytes")


def _chunks(response: http.client.HTTPResponse) -> Iterator[bytes]:
    while True:
        try:
            chunk = response.read(CHUNK_BYTES)
        except (OSError, http.client.HTTPException) as error:
            raise _BrokenOffError(str(error)) from error
        if not chunk:
            return
        yield chunk


def _bar(url: str, have: int, total: int | None) -> tqdm[None]:
    from tqdm import tqdm  # noqa: PLC0415 # whoever reads what is there can do without it

    if not sys.stderr.isatty():
        sys.stderr.write(f"downloading {url} from byte {have} of {total or 'unknown'}\n")
    name = url.rsplit("/", 1)[-1]
    return tqdm(
        desc=name, initial=have, total=total, unit="B", unit_scale=True, unit_divisor=1024,
        disable=None,
    )  # fmt: skip


def _unpack(archive: Path, files: Sequence[str], folder: Path) -> None:
    """Write the wanted files and no others, so that no name in the archive can choose a path."""
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent) as made:
        whole = Path(made) / folder.name
        whole.mkdir()
        try:
            with tarfile.open(archive, "r:gz") as tar:
                for name in files:
                    source = tar.extractfile(f"{folder.name}/{name}")
                    if source is None:
                        raise DownloadError(f"{archive.name} holds {name} as something not a file")
                    with source, (whole / name).open("wb") as target:
                        shutil.copyfileobj(source, target)
                        target.flush()
                        os.fsync(target.fileno())
        except (KeyError, tarfile.TarError, zlib.error, EOFError) as error:
            raise DownloadError(f"cannot unpack {archive.name}: {error}") from error
        if folder.exists():  # an incomplete one: the archive's own files are the truth
            shutil.rmtree(folder)
        whole.rename(folder)

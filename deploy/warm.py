#!/usr/bin/env python3
"""Serve once while the image is built: compile what that loads, and ship no server that fails.

    warm.py COMMAND...      how to call flatfold

Python keeps the bytecode of every module that it imports below $PYTHONPYCACHEPREFIX. So the image
gets bytecode for what serving loads, the standard library's part included (the official Python
images have none), and none for the rest. A read-only root could keep it nowhere later.
"""

import base64
import io
import json
import os
import re
import subprocess
import sys
from urllib.request import Request, urlopen

from PIL import Image

FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF")
PAGES = ("/docs", "/openapi.json", "/metrics", "/v1/models", "/v2", "/v2/models/cifar10/stats")
FORM = b'--x\r\nContent-Disposition: form-data; name="files"; filename="a"\r\n\r\n%b\r\n--x--\r\n'


def pictures() -> list[bytes]:
    """Return one small picture in each format that the service reads."""
    files = [io.BytesIO() for _ in FORMATS]
    for kind, file in zip(FORMATS, files, strict=True):
        Image.effect_noise((48, 40), 50).convert("RGB").save(file, kind)
    return [file.getvalue() for file in files]


def bodies(images: list[bytes]) -> list[tuple[str, bytes]]:
    """Return the classifications, as (content type, body)."""
    coded = json.dumps({"images": [base64.b64encode(images[0]).decode()]}).encode()
    return [
        *(("application/octet-stream", image) for image in images),
        ("application/json", coded),
        ("multipart/form-data; boundary=x", FORM % images[0]),
    ]


def tensor() -> bytes:
    """Return the Open Inference Protocol's request for one black picture."""
    shape = {"name": "images", "shape": [1, 32, 32, 3], "datatype": "UINT8"}
    return json.dumps({"inputs": [{**shape, "data": [0] * 3072}]}).encode()


def fetch(url: str, body: bytes | None = None, kind: str = "application/json") -> None:
    """Ask once; raise `URLError` for any answer that is not a success."""
    request = Request(url, body, {"Content-Type": kind})  # noqa: S310 (the server's own http URL)
    with urlopen(request, timeout=60) as answer:  # noqa: S310 (the server's own http URL)
        answer.read()


def serve(command: list[str], images: list[bytes], workers: int) -> None:
    """Start a server on a free port, ask for one of everything, stop it with SIGTERM."""
    place = {"FLATFOLD_HOST": "127.0.0.1", "FLATFOLD_PORT": "0", "FLATFOLD_WORKERS": str(workers)}
    environment = {**os.environ, **place}
    with subprocess.Popen(  # noqa: S603 (the Dockerfile's own words)
        [*command, "serve"], env=environment, stdout=subprocess.PIPE
    ) as server:
        try:
            line = (server.stdout or io.BytesIO()).readline().decode()
            (url,) = re.findall(r" at (http://\S+)", line) or [""]
            for path in PAGES:
                fetch(url + path)
            for kind, body in bodies(images):
                fetch(f"{url}/v1/classify", body, kind)
            fetch(f"{url}/v2/models/cifar10/infer", tensor())
        finally:
            server.terminate()
    if server.returncode != 0:
        sys.exit(f"warm: the server with {workers} workers exited with {server.returncode}")


def main(command: list[str]) -> None:
    """Classify from stdin, then serve with one worker and with two."""
    images = pictures()
    subprocess.run([*command, "classify", "-"], input=images[0], check=True)  # noqa: S603 (likewise)
    for workers in (1, 2):
        serve(command, images, workers)


if __name__ == "__main__":
    main(sys.argv[1:])

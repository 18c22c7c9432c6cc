"""`flatfold serve` as a process of its own, and requests to it."""

import http.client
import json
import os
import re
import subprocess
import sys

from .test_classify import picture


class Process:
    """`flatfold serve` as a user starts it, with one process where `words` say nothing else."""

    def __init__(self, *words, start=("-m", "flatfold"), **environment):
        if "--workers" not in words:
            words = (*words, "--workers", "1")
        self.process = subprocess.Popen(
            [sys.executable, *start, "serve", "--port", "0", *map(str, words)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, **environment},
            start_new_session=True,  # a group of its own, as a terminal or systemd gives it
        )

    def __enter__(self):
        line = self.process.stdout.readline()
        self.port = int(re.search(r"http://127\.0\.0\.1:(\d+)", line)[1])
        self.curl = self.process.stdout.readline()
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate(timeout=60)  # its workers end with it

    def end(self):
        out, err = self.process.communicate(timeout=60)
        return self.process.returncode, out, err


def post(connection):
    connection.request("POST", "/v1/classify", picture("red"))
    answer = connection.getresponse()
    return answer.status, answer.headers.get("connection"), json.loads(answer.read())


def ask_on_many(server, count):
    """Open so many connections and ask on each of them."""
    connections = []
    for _ in range(count):
        connections.append(http.client.HTTPConnection("127.0.0.1", server.port, timeout=60))
        connections[-1].request("GET", "/v2/health/live")
    return connections


def workers_of(server):
    """Return the process ids of its workers: they are forked from a child of the parent."""
    forked_from = os.popen(f"pgrep -P {server.process.pid} -f forkserver").read().split()  # noqa: S605
    children = os.popen(f"pgrep -P {','.join(forked_from)}").read().split()  # noqa: S605
    return [int(child) for child in children]

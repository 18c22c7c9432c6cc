import subprocess
import sys

import pytest


@pytest.mark.skipif(sys.platform == "win32", reason="no such limit")
def test_too_few_open_files_are_one_line():
    command = [sys.executable, "-m", "flatfold", "serve", "--port", "0"]
    done = subprocess.run(
        ["sh", "-c", 'ulimit -n 16 && exec "$@"', "sh", *command],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (
        1,
        "flatfold: error: this process may open 16 files; serving takes 64 at least (ulimit -n)\n",
    )

import json
import subprocess
import sys


def test_a_librarys_warning_is_one_json_object_on_one_line():
    code = (
        "import warnings\n"
        "from service import logs\n"
        "logs.configure('info', 'json')\n"
        "warnings.warn('a picture is odd')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    (event,) = [json.loads(line) for line in done.stderr.splitlines()]
    assert (event["level"], event["logger"]) == ("warning", "py.warnings")
    assert "UserWarning: a picture is odd" in event["message"]

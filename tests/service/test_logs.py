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


def test_a_damaged_picture_writes_nothing_between_the_lines():
    code = (
        "import io\n"
        "from PIL import Image\n"
        "from flatfold.contract.pictures import PictureError, load_picture\n"
        "from service.app import build_app\n"
        "from service.config import Settings\n"
        "build_app(Settings())\n"
        "buffer = io.BytesIO()\n"
        "Image.effect_noise((32, 32), 99).save(buffer, 'TIFF', compression='tiff_deflate')\n"
        "file = bytearray(buffer.getvalue())\n"
        "start = Image.open(buffer).tag_v2[273][0]\n"
        "file[start + 9 : start + 99] = bytes(90)\n"
        "try:\n"
        "    load_picture(bytes(file), 32, 32)\n"
        "except PictureError as error:\n"
        "    print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("the TIFF picture is truncated or corrupt")
    assert done.stderr == ""

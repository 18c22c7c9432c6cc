"""What is measured: each server's packages, how it is started and where it listens."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

RUNTIME = ("onnxruntime", "pillow", "numpy", "orjson")
UVICORN = ("uvicorn", "uvloop", "httptools")
REPOSITORY = Path(__file__).resolve().parent.parent
CLASSIFY = "/v1/classify"
HERE = "here"  # the environment that runs the benchmark


@dataclass(frozen=True)
class Contender:
    """One server.

    Attributes:
        name: in `--only` and in the tables.
        title: what it is, for the table.
        environment: name of its virtual environment; several may share one.
        packages: what is installed there.
        arguments: after the environment's python; {port} and {model} are filled in.
        paths: where each kind of body is sent, {name} filled in with the model's; a kind that is
            missing is not measured.
        binary: an executable of the environment in place of python.
        interpreter: the Python that its environment is made with.
        ceiling: True where it classifies nothing and shows what HTTP alone costs.
    """

    name: str
    title: str
    environment: str
    packages: tuple[str, ...]
    arguments: tuple[str, ...]
    paths: dict[str, str]
    binary: str = "python"
    interpreter: str = sys.executable
    ceiling: bool = False

    def python(self, cache: Path) -> Path:
        """Return the environment's python."""
        if self.environment == HERE:
            return Path(sys.executable)
        return cache / self.environment / "bin" / "python"

    def command(self, cache: Path, model: str, port: int) -> list[str]:
        """Return the command that starts it."""
        binary = self.python(cache).with_name(self.binary)
        values = {"port": str(port), "model": model}
        return [str(binary), *(argument.format(**values) for argument in self.arguments)]

    def install(self, cache: Path) -> None:
        """Create its environment, unless the packages are there already.

        Raises:
            subprocess.CalledProcessError: pip could not.
        """
        if self.environment == HERE:
            return
        done = cache / self.environment / "bench-installed.txt"
        if done.exists() and done.read_text() == "\n".join(self.packages):
            return
        interpreter = shutil.which(self.interpreter) or sys.executable
        folder = cache / self.environment
        subprocess.run([interpreter, "-m", "venv", "--clear", "--without-pip", folder], check=True)
        pip = [sys.executable, "-m", "pip", "--python", str(self.python(cache))]
        subprocess.run([*pip, "install", "-q", *self.packages], check=True)
        done.write_text("\n".join(self.packages))

    def versions(self, cache: Path) -> dict[str, str]:
        """Return the installed versions of its packages."""
        code = (
            "import sys, importlib.metadata as m\n"
            "for n in sys.argv[1:]: print(n, m.version(n), sep='==')"
        )
        done = subprocess.run(
            [str(self.python(cache)), "-c", code, *self.packages],
            capture_output=True,
            text=True,
            check=True,
        )
        return dict(line.split("==", 1) for line in done.stdout.split())


def environment_of(model: str) -> dict[str, str]:
    """Return the variables that every server gets."""
    return {
        "BENCH_MODEL": model,
        "PYTHONPATH": str(REPOSITORY),
        "PYTHONDONTWRITEBYTECODE": "",
        "ORT_DISABLE_TELEMETRY": "1",
        "OMP_NUM_THREADS": "1",
        "PATH": os.environ.get("PATH", ""),
    }


def _uvicorn(app: str, workers: int = 2) -> tuple[str, ...]:
    return (
        *("-m", "uvicorn", f"benchmarks.apps.{app}", "--port", "{port}"),
        *("--workers", str(workers), "--loop", "uvloop", "--http", "httptools"),
        *("--no-access-log", "--log-level", "warning"),
    )


def _module(app: str) -> tuple[str, ...]:
    return ("-m", f"benchmarks.apps.{app}", "{port}")


PICTURES = {"png": CLASSIFY, "jpeg": CLASSIFY}
FASTAPI = ("fastapi", *UVICORN, *RUNTIME)

CONTENDERS = (
    Contender(
        "ours",
        "flatfold serve, as it comes",
        HERE,
        ("flatfold", "fastapi", *UVICORN, *RUNTIME),
        ("serve", "{model}", "--port", "{port}"),
        {**PICTURES, "tensor": "/v2/models/{name}/infer"},
        binary="flatfold",
    ),
    Contender(
        "ours-single",
        "flatfold serve --workers 1",
        HERE,
        ("flatfold",),
        ("serve", "{model}", "--port", "{port}", "--workers", "1"),
        PICTURES,
        binary="flatfold",
    ),
    Contender(
        "starlette",
        "hand-tuned Starlette, unbatched, inline, 2 workers",
        "starlette",
        FASTAPI,
        _uvicorn("tuned_starlette:app"),
        PICTURES,
    ),
    Contender(
        "fastapi",
        "FastAPI template, thread pool, 2 workers",
        "starlette",
        FASTAPI,
        _uvicorn("fastapi_template:app"),
        PICTURES,
    ),
    Contender(
        "mosec",
        "mosec, batches of up to 16, 2 workers",
        "mosec",
        ("mosec", *RUNTIME),
        (*_module("mosec_app"), "batched"),
        PICTURES,
    ),
    Contender(
        "mosec-single",
        "mosec, no batches, 2 workers",
        "mosec",
        ("mosec", *RUNTIME),
        (*_module("mosec_app"), "single"),
        PICTURES,
    ),
    Contender(
        "litserve",
        "LitServe, batches of up to 8, 2 workers",
        "litserve",
        ("litserve", "uvloop", "httptools", *RUNTIME),
        (*_module("litserve_app"), "batched"),
        PICTURES,
    ),
    Contender(
        "litserve-single",
        "LitServe, no batches, 2 workers",
        "litserve",
        ("litserve", "uvloop", "httptools", *RUNTIME),
        (*_module("litserve_app"), "single"),
        PICTURES,
    ),
    Contender(
        "pytriton",
        "Triton (pytriton), dynamic batches, 2 instances",
        "pytriton",
        ("nvidia-pytriton", *RUNTIME),
        _module("pytriton_app"),
        {"tensor": "/v2/models/cifar10/infer"},
        # Its back end loads the system's libpython, which must match the standard library.
        interpreter="/usr/bin/python3",
    ),
    Contender(
        "bentoml",
        "BentoML, 2 workers",
        "bentoml",
        ("bentoml", *RUNTIME),
        ("serve", "benchmarks.apps.bentoml_app:Classifier", "--port", "{port}"),
        PICTURES,
        binary="bentoml",
    ),
    Contender(
        "bare-asgi",
        "ceiling: bare ASGI on uvicorn, 1 worker",
        "starlette",
        FASTAPI,
        _uvicorn("ceilings:bare", 1),
        PICTURES,
        ceiling=True,
    ),
    Contender(
        "starlette-route",
        "ceiling: Starlette route, 1 worker",
        "starlette",
        FASTAPI,
        _uvicorn("ceilings:starlette", 1),
        PICTURES,
        ceiling=True,
    ),
    Contender(
        "fastapi-route",
        "ceiling: FastAPI route, 1 worker",
        "starlette",
        FASTAPI,
        _uvicorn("ceilings:fastapi", 1),
        PICTURES,
        ceiling=True,
    ),
)
BY_NAME = {contender.name: contender for contender in CONTENDERS}

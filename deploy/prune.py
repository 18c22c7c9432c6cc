#!/usr/bin/env python3
"""Remove from the image's environment what serving never loads, and say how much each freed.

Run by the Dockerfile inside the build stage. Licences and metadata (*.dist-info) stay. What a
pattern no longer finds shows as 0.0 MB and is no error: platforms and versions differ.
"""

import shutil
import sys
import sysconfig
from pathlib import Path

# glob below site-packages: why nothing misses it
UNUSED = {
    "onnxruntime/capi/libonnxruntime.so.*": "a second runtime, for C programs; Python's is static",
    "onnxruntime/transformers": "converts language models",
    "onnxruntime/tools": "converts models for phones",
    "onnxruntime/quantization": "done at export time",
    "google/protobuf": "read by those converters alone",
    "numpy/**/tests": "numpy's own tests",
    "numpy/_core/_*_tests.*": "likewise",
    "numpy/_core/_simd.*": "likewise",
    "numpy/f2py": "compiles Fortran",
    "numpy/distutils": "compiles extensions",
    "PIL/_avif.*": "AVIF is not one of the formats served",
    "pillow.libs/libavif*": "used by the above alone",
    "PIL/_imagingft.*": "draws text",
    "pillow.libs/libfreetype*": "likewise",
    "pillow.libs/libharfbuzz*": "likewise",
    "**/*.pyi": "types for checkers",
    "**/*.p[xy][xd]": "Cython sources",
    "**/*.[ach]": "C sources, headers and static libraries",
}


def size(path: Path) -> int:
    """Return the bytes of a file, or of all files below a folder."""
    if path.is_dir():
        return sum(inner.stat().st_size for inner in path.rglob("*") if inner.is_file())
    return path.stat().st_size


def prune(site: Path) -> None:
    """Remove every match of `UNUSED` below `site`."""
    for pattern, reason in UNUSED.items():
        matches = sorted(site.glob(pattern))
        freed = sum(size(match) for match in matches)
        for match in matches:
            shutil.rmtree(match) if match.is_dir() else match.unlink()
        sys.stdout.write(f"{freed / 1e6:6.1f} MB  {pattern}: {reason}\n")


if __name__ == "__main__":
    prune(Path(sysconfig.get_path("purelib")))

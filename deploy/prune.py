#!/usr/bin/env python3
"""Remove from the image's environment what serving never loads, and say how much each freed.

Run by the Dockerfile inside the build stage. Licences and metadata (*.dist-info) stay. What a
pattern no longer finds shows as 0.0 MB and is no error: platforms and versions differ.
"""

import shutil
import struct
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
    "numpy/random": "imported on first use, and serving never does; a build that did would fail",
    "numpy/fft": "likewise",
    "numpy/f2py": "compiles Fortran",
    "numpy/distutils": "compiles extensions",
    "PIL/_avif.*": "AVIF is not one of the formats served",
    "pillow.libs/libavif*": "used by the above alone",
    "PIL/_imagingft.*": "draws text",
    "pillow.libs/libfreetype*": "likewise",
    "pillow.libs/libharfbuzz*": "likewise",
    "pillow.libs/libbrotli*": "read compressed fonts",
    "**/*.pyi": "types for checkers",
    "**/*.p[xy][xd]": "Cython sources",
    "**/*.[ach]": "C sources, headers and static libraries",
}


def size(path: Path) -> int:
    """Return the bytes of a file, or of all files below a folder."""
    if path.is_dir():
        return sum(inner.stat().st_size for inner in path.rglob("*") if inner.is_file())
    return path.stat().st_size


def loaded_bytes(library: bytes) -> int:
    """Return where the last segment of a 64-bit little-endian ELF file ends.

    The loader maps segments (program headers) alone; the sections behind them are symbols and
    line tables for debuggers. Offsets are those of `Elf64_Ehdr` and `Elf64_Phdr` (System V ABI,
    chapters 4 and 5).
    """
    (table,) = struct.unpack_from("<Q", library, 32)
    size_of_one, count = struct.unpack_from("<HH", library, 54)
    ends = [64, table + size_of_one * count]
    for header in range(table, ends[1], size_of_one):
        offset, _, _, length = struct.unpack_from("<4Q", library, header + 8)
        ends.append(offset + length)
    return max(ends)


def strip(path: Path) -> int:
    """Cut off what only debuggers read, and the table that names it; return the bytes freed.

    What `strip` of binutils does, which a slim base lacks. Anything but a 64-bit little-endian
    ELF file stays as it is.
    """
    library = path.read_bytes()
    if library[:6] != b"\x7fELF\x02\x01":
        return 0
    end = loaded_bytes(library)
    head = bytearray(library[:end])
    struct.pack_into("<Q", head, 40, 0)  # e_shoff: no section table
    struct.pack_into("<2H", head, 60, 0, 0)  # e_shnum, e_shstrndx
    path.write_bytes(head)
    return len(library) - end


def prune(site: Path) -> None:
    """Remove every match of `UNUSED` below `site`, and strip the libraries that are left."""
    for pattern, reason in UNUSED.items():
        matches = sorted(site.glob(pattern))
        freed = sum(size(match) for match in matches)
        for match in matches:
            shutil.rmtree(match) if match.is_dir() else match.unlink()
        sys.stdout.write(f"{freed / 1e6:6.1f} MB  {pattern}: {reason}\n")
    freed = sum(strip(path) for path in site.glob("**/*.so*") if path.is_file())
    sys.stdout.write(f"{freed / 1e6:6.1f} MB  **/*.so*: symbols and line tables, for debuggers\n")


if __name__ == "__main__":
    prune(Path(sysconfig.get_path("purelib")))

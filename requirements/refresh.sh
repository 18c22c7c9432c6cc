#!/usr/bin/env bash
# Write the locks of the serving dependencies again: exact versions, with the hash of every file
# that a platform may need. `make lock` calls this; it needs uv.
#
#   requirements/refresh.sh             keep what still satisfies pyproject.toml, add what is new
#   requirements/refresh.sh --upgrade   take the newest versions that pyproject.toml allows
set -euo pipefail
cd "$(dirname "$0")/.."

lock() { # NAME [OPTION]...: write requirements/NAME.txt
    local name=$1
    shift
    # Universal: one lock for every Python from 3.11 on, every system and every processor.
    uv pip compile pyproject.toml --quiet --universal --python-version 3.11 --generate-hashes \
        --custom-compile-command "make lock" --output-file "requirements/$name.txt" "$@"
}

lock serving "$@"
# Both builds of onnxruntime write the same files, so the GPU's must come without the other. No
# extra in pyproject.toml can say that, and one that brings both leaves it to chance which is used.
lock serving-gpu requirements/gpu.in --override requirements/gpu-overrides.txt \
    --no-emit-package onnxruntime "$@"

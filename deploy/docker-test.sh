#!/usr/bin/env bash
# Build the image and test it as it would run: `make docker-test` calls this.
#
#   deploy/docker-test.sh [PYTEST OPTION]...
#
# It needs a Docker engine that shares this machine's network (--network=host), since the tests
# talk to the containers on 127.0.0.1. FLATFOLD_BASE gives another base image, PYTHON the
# interpreter that has the development dependencies.
set -euo pipefail
cd "$(dirname "$0")/.."

if ! docker info >/dev/null 2>&1; then
    echo "docker-test: no Docker engine answers (docker info); start one, or set DOCKER_HOST" >&2
    exit 69 # EX_UNAVAILABLE, so that a caller can tell this from a failed test
fi

export FLATFOLD_IMAGE=${FLATFOLD_IMAGE:-flatfold:test}
export FLATFOLD_BASE=${FLATFOLD_BASE:-python:3.11-slim-bookworm}
deploy/docker-build.sh --tag "$FLATFOLD_IMAGE" --build-arg BASE="$FLATFOLD_BASE" --network=host
"${PYTHON:-python}" -m pytest tests/docker -p no:xdist "$@"

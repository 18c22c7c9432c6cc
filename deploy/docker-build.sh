#!/usr/bin/env bash
# Build the image with its version and revision in the labels: `make docker` calls this.
#
#   deploy/docker-build.sh [OPTION OF docker build]...      e.g. --tag flatfold
set -euo pipefail
cd "$(dirname "$0")/.."

version=$(sed -n 's/^version = "\(.*\)"$/\1/p' pyproject.toml)
revision=$(git rev-parse HEAD 2>/dev/null || echo unknown)
# Labels by option come last, so that a new commit leaves the build's cache alone.
docker build --label "org.opencontainers.image.version=$version" \
    --label "org.opencontainers.image.revision=$revision" "$@" .

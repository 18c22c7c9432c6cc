# The service as a container: classic builder syntax only, so that it builds anywhere.
#
#   docker build -t flatfold .
#   docker run --rm -p 8000:8000 flatfold
#
# docs/docker.md explains the choices and gives the figures. For a GPU:
#
#   docker build -t flatfold:gpu --build-arg LOCK=serving-gpu \
#       --build-arg BASE=nvidia/cuda:13.0.0-cudnn-runtime-ubuntu24.04 .
ARG BASE=python:3.11-slim-bookworm

FROM ${BASE} AS build
ARG LOCK=serving
COPY requirements/${LOCK}.txt deploy/prune.py /tmp/
# A CUDA base has no Python; a Python base has all of this already. No pip inside the environment:
# nothing is ever installed into it again.
RUN { python3 -m pip --version \
        || { apt-get update && apt-get install -y --no-install-recommends python3 python3-pip; }; } \
    && python3 -m venv --without-pip /opt/flatfold \
    && python3 -m pip --python /opt/flatfold/bin/python install --no-cache-dir --no-compile \
        --only-binary :all: --require-hashes -r /tmp/${LOCK}.txt \
    && /opt/flatfold/bin/python /tmp/prune.py
# All that .dockerignore lets through, in one step: a storage driver without layers (vfs) copies
# the whole image for each. A read-only root cannot keep bytecode, so warm.py makes it here.
COPY . /opt/app
RUN cd /opt/app \
    && mkdir bin \
    && mv deploy/flatfold deploy/healthcheck.py bin/ \
    && mv deploy/warm.py /tmp/ \
    && rm -r deploy requirements \
    && PYTHONPATH=/opt/app PYTHONPYCACHEPREFIX=/opt/app/pycache ORT_DISABLE_TELEMETRY=1 \
        /opt/flatfold/bin/python /tmp/warm.py /opt/flatfold/bin/python bin/flatfold

FROM ${BASE}
# A folder mounted on /models hides the default model; a new named volume starts with it.
RUN { command -v python3 \
        || { apt-get update && apt-get install -y --no-install-recommends python3 \
            && rm -rf /var/lib/apt/lists/*; }; } \
    && mkdir /models \
    && ln -s /opt/app/flatfold/models/cifar10.onnx /models/cifar10.onnx
LABEL org.opencontainers.image.title="flatfold" \
    org.opencontainers.image.description="Serves folded image classifiers over HTTP." \
    org.opencontainers.image.licenses="Apache-2.0"
ENV PATH=/opt/app/bin:/opt/flatfold/bin:$PATH \
    HOME=/tmp \
    PYTHONPATH=/opt/app \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONPYCACHEPREFIX=/opt/app/pycache \
    PYTHONUNBUFFERED=1 \
    ORT_DISABLE_TELEMETRY=1 \
    FLATFOLD_WORKERS=1 \
    FLATFOLD_HOST=0.0.0.0 \
    FLATFOLD_PORT=8000 \
    FLATFOLD_MODELS=/models
# A number, so that an orchestrator can see that it is not root; any other works as well.
USER 65532:65532
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=3s --start-period=10s --retries=3 \
    CMD ["python", "-BISXpycache_prefix=/opt/app/pycache", "/opt/app/bin/healthcheck.py"]
# No shell in between: SIGTERM reaches the server, which answers what it has accepted and exits 0.
ENTRYPOINT ["flatfold"]
CMD ["serve"]
# Two layers: the dependencies rarely change, and are then not pulled again.
COPY --from=build /opt/flatfold /opt/flatfold
COPY --from=build /opt/app /opt/app

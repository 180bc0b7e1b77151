# Works with `docker build` and `buildah bud`. The first stage makes wheels, the last one gets only
# what is installed from them: no compiler, no pip, no sources.
# A release names the base by its digest: make image BASE_IMAGE=python:3.13-slim-bookworm@sha256:...
ARG BASE_IMAGE=python:3.13-slim-bookworm

FROM ${BASE_IMAGE} AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_CACHE_DIR=1 \
    PIP_ROOT_USER_ACTION=ignore
WORKDIR /src
COPY pyproject.toml README.md requirements.lock requirements-build.lock ./
# Only files whose hash is in a lock, and only wheels: the base has no compiler, and a source package
# would run code of its own here. What a lock does not name is not looked for.
RUN python -m venv --without-pip /opt/deviceplugin \
 && python -m pip install --require-hashes --only-binary :all: -r requirements-build.lock \
 && python -m pip --python /opt/deviceplugin/bin/python install --no-compile \
      --require-hashes --only-binary :all: -r requirements.lock
COPY deviceplugin deviceplugin
# The same sources give the same wheel.
ARG SOURCE_DATE_EPOCH=315532800
# Bytecode is compiled now, because the root file system is read-only when the daemon runs. The base
# image has none of its own; docstrings (-o 2) would be 2 MiB of the daemon's memory.
RUN umask 022 && chmod -R u=rwX,go=rX . \
 && python -m pip wheel --no-index --no-deps --no-build-isolation --wheel-dir /wheels . \
 && python -m pip --python /opt/deviceplugin/bin/python install --no-compile \
      --no-index --no-deps /wheels/deviceplugin-*.whl \
 && /opt/deviceplugin/bin/python -m compileall -q -o 2 --invalidation-mode unchecked-hash \
      /opt/deviceplugin/lib
# What the liveness probe runs: by its path, without the folders of packages.
RUN cp deviceplugin/alive.py /opt/deviceplugin/alive.py

FROM ${BASE_IMAGE}
ARG BASE_IMAGE
LABEL org.opencontainers.image.title="deviceplugin" \
      org.opencontainers.image.description="One Kubernetes device plugin daemon per node for every GPU on it" \
      org.opencontainers.image.base.name="${BASE_IMAGE}"
RUN python -m pip uninstall --yes --quiet --root-user-action=ignore setuptools wheel pip \
 && python -m compileall -q -o 2 --invalidation-mode unchecked-hash -x '/(tests?|site-packages)/' \
      "$(python -c 'import sysconfig; print(sysconfig.get_path("stdlib"))')"
COPY --from=build /opt/deviceplugin /opt/deviceplugin
ENV PATH=/opt/deviceplugin/bin:$PATH \
    PYTHONOPTIMIZE=2 \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    MALLOC_ARENA_MAX=2
# `run` needs user 0, without any capability: the kubelet's device-plugin and pod-resources
# directories and the sockets in them belong to root and take no other writer. The other commands
# do not: `docker run --rm --user 65534:65534 IMAGE demo`.
# hadolint ignore=DL3002
USER 0
EXPOSE 9440
ENTRYPOINT ["deviceplugin"]
CMD ["run"]

# Works with `docker build` and `buildah bud`. The first stage makes wheels and installs them, and
# collects what they and Python need; the image gets that and nothing else of the base: no shell, no
# package manager, no pip, no compiler, no sources of ours.
#   --target=nonroot  for commands that need no root, such as `scheduler` and `fleet`
#   --target=slim     on the base as it is, with a shell, for looking around
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
RUN umask 022 && chmod -R u=rwX,go=rX . \
 && python -m pip wheel --no-index --no-deps --no-build-isolation --wheel-dir /wheels . \
 && python -m pip --python /opt/deviceplugin/bin/python install --no-compile \
      --no-index --no-deps /wheels/deviceplugin-*.whl
# What the liveness probe runs: by its path, without the folders of packages.
RUN cp deviceplugin/alive.py /opt/deviceplugin/alive.py
# Bytecode is compiled now, because the root file system is read-only when the daemon runs, and named as
# where it will lie. Docstrings (-o 2) would be 2 MiB of the daemon's memory.
COPY image/assemble.py /assemble.py
RUN python /assemble.py /image /opt/deviceplugin \
 && python -m compileall -q -o 2 --invalidation-mode unchecked-hash -s /image -p / \
      /image/opt/deviceplugin/lib "/image$(python -c 'import sysconfig; print(sysconfig.get_path("stdlib"))')"

FROM ${BASE_IMAGE} AS slim
COPY --from=build /image/opt/deviceplugin /opt/deviceplugin
ENV PATH=/opt/deviceplugin/bin:$PATH \
    PYTHONOPTIMIZE=2 \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    MALLOC_ARENA_MAX=2
USER 0
EXPOSE 9440
ENTRYPOINT ["deviceplugin"]
CMD ["run"]

FROM scratch AS lean
ARG BASE_IMAGE
LABEL org.opencontainers.image.title="deviceplugin" \
      org.opencontainers.image.description="One Kubernetes device plugin daemon per node for every GPU on it" \
      org.opencontainers.image.base.name="${BASE_IMAGE}"
COPY --from=build /image /
ENV PATH=/opt/deviceplugin/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    LANG=C.UTF-8 \
    PYTHONOPTIMIZE=2 \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    MALLOC_ARENA_MAX=2
ENTRYPOINT ["deviceplugin"]

FROM lean AS nonroot
USER 65532:65532
CMD ["--help"]

FROM lean
# `run` needs user 0, without any capability: the kubelet's device-plugin and pod-resources
# directories and the sockets in them belong to root and take no other writer.
# hadolint ignore=DL3002
USER 0
EXPOSE 9440
CMD ["run"]

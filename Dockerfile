# One image for all five programs. `make image` builds it with docker, podman or buildah, and tells what weighs what:
#
#     penstock-init penstock-planner|penstock-scheduler|penstock-worker|penstock-analyzer|penstock-gateway
#
# It needs a base with glibc, CPython 3.11 or newer as `python3` and its venv module: Debian's own python3 and
# python3-venv will do (`--build-arg BASE_IMAGE=…`), or the official Python image, which is the default.
#
# The default is pinned. A digest under that name can only be something which the official repository has published: at
# worst it is old. This one is the index (amd64, arm64, …) of Python 3.11.16 on Debian 12. To move on, ask the registry
# what the tag names today and put the digest here, in a commit of its own:
#
#     docker buildx imagetools inspect python:3.11-slim-bookworm --format '{{.Manifest.Digest}}'
#     skopeo inspect --format '{{.Digest}}' docker://docker.io/library/python:3.11-slim-bookworm
ARG BASE_IMAGE=docker.io/library/python:3.11-slim-bookworm@sha256:a36c24f9cbdf4fd0f52d67f0823eeac19c2028c637cecc392d97f980d4fec56b

FROM ${BASE_IMAGE} AS build
WORKDIR /build
COPY requirements.lock ./
COPY tools/image/lock.py tools/image/trim.py tools/image/
# First of all, and writing none (-B): what Python has once imported here has byte code, what the base has not.
RUN python3 -IB tools/image/trim.py --standard-library /base
# pip lives in an environment of its own, so that the one which is shipped never has it. Wheels alone: nothing that is
# downloaded runs here, and no compiler is needed.
RUN python3 -m venv /build/tools \
 && python3 -m venv --without-pip /opt/penstock/venv \
 && python3 -I tools/image/lock.py requirements.lock --without-left-out > runtime.lock \
 && python3 -I tools/image/lock.py requirements.lock --only setuptools > build.lock \
 && tools/bin/pip install --no-cache-dir --only-binary :all: --no-deps --require-hashes -r build.lock \
 && tools/bin/pip --python /opt/penstock/venv/bin/python install --no-cache-dir --no-compile --only-binary :all: \
      --no-deps --require-hashes --report installed.json -r runtime.lock \
 && python3 -I tools/image/trim.py /opt/penstock/venv
COPY tools/image/sbom.py tools/image/
COPY pyproject.toml README.md LICENSE ./
COPY penstock penstock
COPY planner planner
COPY scheduler scheduler
COPY worker worker
COPY analyzer analyzer
COPY gateway gateway
# Ours goes into a layer of its own, a few megabytes: an upgrade need not pull the dependencies again.
RUN tools/bin/pip wheel --no-cache-dir --no-deps --no-build-isolation --wheel-dir wheel . \
 && tools/bin/pip --python /opt/penstock/venv/bin/python install --no-cache-dir --no-compile --no-deps --no-index \
      --no-warn-script-location --root /ours wheel/*.whl \
 && python3 -I tools/image/trim.py /ours/opt/penstock/venv --as /opt/penstock/venv \
 && python3 -I tools/image/sbom.py --installed installed.json --out /ours/opt/penstock/sbom.cdx.json \
      /opt/penstock/venv /ours/opt/penstock/venv

FROM ${BASE_IMAGE}
RUN find / -xdev -type f -perm /6000 -exec chmod a-s {} + \
 && echo 'penstock:x:65532:' >> /etc/group \
 && echo 'penstock:x:65532:65532:Penstock:/var/lib/penstock:/usr/sbin/nologin' >> /etc/passwd \
 && install -d -o 65532 -g 65532 -m 0750 /var/lib/penstock
# Byte code of the base's own modules, where it has none.
COPY --from=build /base/ /
COPY --from=build /opt/penstock/venv /opt/penstock/venv
COPY --from=build /ours/ /
ENV PATH=/opt/penstock/venv/bin:/usr/local/bin:/usr/bin:/bin \
    HOME=/var/lib/penstock \
    PENSTOCK_DATA=/var/lib/penstock \
    PYTHONSAFEPATH=1 \
    PYTHONDONTWRITEBYTECODE=1
WORKDIR /var/lib/penstock
USER 65532:65532
ENTRYPOINT ["/opt/penstock/venv/bin/penstock-init"]
CMD ["penstock", "--help"]
# Last, since they differ with every build.
ARG BASE_IMAGE
ARG BASE_DIGEST=unknown
ARG VERSION=unknown
ARG REVISION=unknown
ARG SOURCE=unknown
ARG CREATED=unknown
LABEL org.opencontainers.image.title="Penstock" \
      org.opencontainers.image.description="Large batches of AI work: planner, scheduler, worker, analyzer, gateway" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.source="${SOURCE}" \
      org.opencontainers.image.created="${CREATED}" \
      org.opencontainers.image.base.name="${BASE_IMAGE}" \
      org.opencontainers.image.base.digest="${BASE_DIGEST}"

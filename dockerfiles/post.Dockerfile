# The step that posts: no network of its own to run, so no CUDA.
#
# Built by `cargo xtask images post`. Give the digest of a base that you trust:
# --base IMAGE@sha256:…
ARG BASE=docker.io/library/debian:bookworm-slim
FROM ${BASE}
LABEL org.opencontainers.image.title="auria-post" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY launcher/ /auria/bin/
COPY bin/ /usr/local/bin/
USER 65532:65532
WORKDIR /auria/work

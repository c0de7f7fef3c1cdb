# The step that paints: AttnGAN, with convolutions that want CUDA 12.8.
#
# Built by `cargo xtask images paint`, which puts what is copied here into one folder. The pin is
# CUDA 12.8: docs/cuda.md says which drivers and GPUs it fits, and pipelines.yaml says it again
# for the nodes. Give the digest of a base that you trust: --base IMAGE@sha256:…
ARG BASE=docker.io/nvidia/cuda:12.8.1-base-ubuntu24.04
FROM ${BASE}
# The largest layer first: images with the same base and libtorch share it.
COPY libtorch/ /opt/libtorch/lib/
ARG CUDA=12.8
ARG LIBTORCH=cu128
LABEL org.opencontainers.image.title="auria-paint" \
      org.opencontainers.image.licenses="Apache-2.0" \
      dev.auria.cuda="${CUDA}" \
      dev.auria.libtorch="2.11.0+${LIBTORCH}"
ENV LD_LIBRARY_PATH=/opt/libtorch/lib \
    NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility
# With the launcher in it, a Pod needs no other container to bring it.
COPY launcher/ /auria/bin/
COPY bin/ /usr/local/bin/
USER 65532:65532
WORKDIR /auria/work

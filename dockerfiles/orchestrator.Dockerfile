# The controller: auria-pipeline, and nothing that a shell could use.
#
# Built by `cargo xtask images orchestrator`. The base must bring glibc 2.36 or later and the
# certificates of public authorities. Give the digest of a base that you trust:
# --base IMAGE@sha256:…
ARG BASE=gcr.io/distroless/cc-debian12:nonroot
FROM ${BASE}
LABEL org.opencontainers.image.title="auria-pipeline" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY bin/ /usr/local/bin/
USER 65532:65532
ENTRYPOINT ["/usr/local/bin/auria-pipeline"]
CMD ["controller"]

# The launcher alone, a static program: what an init container or an image volume brings into
# images that do not carry it. An image of your own carries it with one line:
#
#   COPY --from=auria.local/launcher:0.1.0 /auria/bin/auria-launcher /auria/bin/auria-launcher
#
# Built by `cargo xtask images launcher`.
FROM scratch
LABEL org.opencontainers.image.title="auria-launcher" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY launcher/ /auria/bin/
USER 65532:65532
ENTRYPOINT ["/auria/bin/auria-launcher"]

# Builds the image from a checkout: docker buildx build --platform linux/amd64,linux/arm64 .
# `cargo xtask image` builds the same image without a daemon. `cargo xtask rootfs` makes the content for
# both.

# Cross-compiles on the build machine, for both platforms.
FROM --platform=$BUILDPLATFORM rust:1.95-bookworm AS build
ARG TARGETARCH
WORKDIR /src
COPY . .
RUN if [ "$TARGETARCH" = arm64 ]; then cargo xtask rootfs /rootfs --aarch64; else cargo xtask rootfs /rootfs; fi

FROM scratch
COPY --from=build /rootfs /
ENV PATH=/bin
USER 65532:65532
ENTRYPOINT ["/bin/dexsidecar"]
LABEL org.opencontainers.image.title="dexsidecar" \
      org.opencontainers.image.description="Keeps a fresh Dex token in a file, for workloads on Kubernetes" \
      org.opencontainers.image.version="0.1.0" \
      org.opencontainers.image.licenses="MIT OR Apache-2.0"

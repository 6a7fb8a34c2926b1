# aarch64-unknown-linux-musl: 64-bit ARM boards.
# What of it was tried: README.md. The base is cross's own image for this target, which cross names by itself; it has
# the C compiler for the TLS crypto's assembly, and the emulator for tests. To pin it, put its digest here:
#   FROM name@sha256:...
ARG CROSS_BASE_IMAGE
FROM ${CROSS_BASE_IMAGE}

# Static, at a fixed address, as in scripts/build: nothing is relocated at start, so fewer pages are private.
ENV CARGO_TARGET_AARCH64_UNKNOWN_LINUX_MUSL_RUSTFLAGS="-C relocation-model=static"

# Fails here rather than in the middle of a build.
RUN command -v aarch64-linux-musl-gcc

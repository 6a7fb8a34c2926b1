# armv7-unknown-linux-musleabihf: 32-bit ARM boards with hardware floating point.
# What of it was tried: README.md. The base is cross's own image for this target, which cross names by itself; it has
# the C compiler for the TLS crypto's assembly, and the emulator for tests. To pin it, put its digest here:
#   FROM name@sha256:...
ARG CROSS_BASE_IMAGE
FROM ${CROSS_BASE_IMAGE}

# Static, at a fixed address, as in scripts/build: nothing is relocated at start, so fewer pages are private.
ENV CARGO_TARGET_ARMV7_UNKNOWN_LINUX_MUSLEABIHF_RUSTFLAGS="-C relocation-model=static"

# Fails here rather than in the middle of a build.
RUN command -v arm-linux-musleabihf-gcc

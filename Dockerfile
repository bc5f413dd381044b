# Each RUN is a Makefile target, so that what is built here is built by hand too.
FROM golang:1.26-bookworm AS build
WORKDIR /src
COPY go.mod go.sum Makefile ./
RUN make deps
COPY . .
ARG VERSION=unknown
RUN make build VERSION=$VERSION OUT=/out/nrt

# With CUDA: gcc is in Go's image, and nothing of NVIDIA's is needed to build.
FROM build AS build-cuda
ARG VERSION=unknown
RUN make cuda VERSION=$VERSION OUT=/out/nrt-cuda

# cuBLAS is in NVIDIA's image; the driver comes from the host, by its runtime.
FROM nvidia/cuda:13.0.2-runtime-ubuntu24.04 AS cuda
ENV NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility
ENV XDG_STATE_HOME=/data
COPY --from=build-cuda /out/nrt-cuda /usr/local/bin/nrt
COPY LICENSE /LICENSE
USER 65532:65532
WORKDIR /data
ENTRYPOINT ["nrt"]
CMD ["--help"]

# The last stage is what `docker build .` makes: one static file; no shell, no
# package manager, no root. The user has no home: what readers train lies in /data.
FROM scratch
ENV XDG_STATE_HOME=/data
COPY --from=build /out/nrt /nrt
COPY LICENSE /LICENSE
USER 65532:65532
WORKDIR /data
ENTRYPOINT ["/nrt"]
CMD ["--help"]

# Each RUN is a Makefile target, so that what is built here is built by hand too.
FROM golang:1.26-bookworm AS build
WORKDIR /src
COPY go.mod go.sum Makefile ./
RUN make deps
COPY . .
ARG VERSION=unknown
RUN make build VERSION=$VERSION OUT=/out/nrt

# One static file; no shell, no package manager, no root.
FROM scratch
COPY --from=build /out/nrt /nrt
COPY LICENSE /LICENSE
USER 65532:65532
WORKDIR /data
ENTRYPOINT ["/nrt"]
CMD ["--help"]

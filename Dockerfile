# One image for a node, one for the sample origin; both hold a static program and
# what it needs from the system, and nothing else.
#
#   docker build -t edge .
#   docker build -t edge-origin --target origin .
#   docker build -t edge --build-arg TARGETARCH=arm64 .
#
# BuildKit sets TARGETARCH by --platform; the classic builder takes it as given.

ARG GO_IMAGE=golang:1.26
FROM ${GO_IMAGE} AS source
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
ENV CGO_ENABLED=0 GOOS=linux

FROM source AS build-origin
ARG TARGETARCH=
RUN GOARCH="${TARGETARCH:-$(go env GOHOSTARCH)}" \
    go build -trimpath -buildvcs=false -ldflags "-s -w -buildid=" -o /out/origin ./cmd/origin

FROM scratch AS origin
COPY --from=build-origin /out/origin /origin
USER 65532:65532
EXPOSE 9000
ENTRYPOINT ["/origin"]
CMD ["--listen", "0.0.0.0:9000"]

FROM source AS build
ARG TARGETARCH=
ARG VERSION=dev
RUN mkdir -p /out/data && GOARCH="${TARGETARCH:-$(go env GOHOSTARCH)}" \
    go build -trimpath -buildvcs=false -ldflags "-s -w -buildid= -X main.version=${VERSION}" -o /out/edge ./cmd/edge

FROM scratch AS edge
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/
COPY --from=build /out/edge /edge
COPY --from=build --chown=65532:65532 /out/data /data
COPY deploy/container.yaml /etc/edge/edge.yaml
USER 65532:65532
ENV EDGE_DATA=/data
VOLUME ["/data"]
# HTTP; HTTPS over TCP and QUIC; DNS; what nodes tell each other. The admin
# listener stays on loopback.
EXPOSE 8080 8443/tcp 8443/udp 5353/tcp 5353/udp 7946/tcp 7946/udp
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 CMD ["/edge", "healthcheck"]
ENTRYPOINT ["/edge"]
CMD ["serve", "--config", "/etc/edge/edge.yaml"]

# The two images of Hutch, for those who have Docker or buildah. `make image` makes the
# same two without either; a test keeps this file and that in step.
#
#   docker build --target operator -t registry.example.com/hutch:0.1.0 .
#   docker build --target node -t registry.example.com/hutch-node:0.1.0 .

FROM rust:1-bookworm AS build
WORKDIR /src
COPY . .
RUN cargo build --release --package hutch \
 && cargo build --release --package hutch-node \
 && cargo build --profile agent --package hutch-agent \
 && mkdir /out \
 && cp target/*/release/hutch target/*/release/hutch-node target/*/agent/hutch-agent /out

FROM debian:bookworm-slim AS packages
RUN apt-get update \
 && apt-get install -y --no-install-recommends ca-certificates fuse s3fs \
 && rm -rf /var/lib/apt/lists/*

# Controller, REST facade, and what brings the agent into sandboxes.
FROM scratch AS operator
COPY --from=build /out/hutch /out/hutch-agent /
COPY --from=packages /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
USER 65532:65532
ENTRYPOINT ["/hutch"]

# What mounts buckets, on every node: root, with its mounter.
FROM packages AS node
COPY --from=build /out/hutch-node /hutch-node
ENTRYPOINT ["/hutch-node"]

# The two images of Hutch, for Docker or buildah. `make image` builds the same two without
# them. A test compares this file with crates/testcluster/src/images/hutch.rs.
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

# Controllers and REST facade. Sandboxes get the agent from this image.
FROM scratch AS operator
COPY --from=build /out/hutch /out/hutch-agent /
COPY --from=packages /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
USER 65532:65532
ENTRYPOINT ["/hutch"]

# The node component, which mounts buckets. It runs as root and contains the mounter.
FROM packages AS node
COPY --from=build /out/hutch-node /hutch-node
ENTRYPOINT ["/hutch-node"]

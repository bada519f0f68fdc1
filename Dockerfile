# Longshore's image: one static binary, the certificates of public authorities, and a directory for data.
#
#   docker build -t longshore .
#   docker run -p 127.0.0.1:5000:5000 -v longshore:/data -e LONGSHORE_AUTH__OPEN=true longshore
#
# Every setting is a variable (docs/operating.md), or stands in a file that is mounted and named by LONGSHORE_CONFIG.
# BuildKit builds it, which is the default of every current `docker build`.

FROM rust:1.95.0-bookworm AS build
WORKDIR /src
COPY . .
# glibc is linked in (docs/adr/0013-the-image-holds-a-static-glibc.md). What cargo has fetched and built before stays with
# the builder, so the binary is taken out in the same step: without line tables, which are three quarters of it, but with
# the names of functions for backtraces.
RUN --mount=type=cache,id=longshore-registry,target=/usr/local/cargo/registry \
    --mount=type=cache,id=longshore-target,target=/src/target \
    RUSTFLAGS="-C target-feature=+crt-static" cargo build --release --locked --target "$(uname -m)-unknown-linux-gnu" \
    && mkdir -p /image/data /image/usr/bin /image/etc/ssl/certs \
    && strip --strip-debug -o /image/usr/bin/longshore "target/$(uname -m)-unknown-linux-gnu/release/longshore" \
    && cp /etc/ssl/certs/ca-certificates.crt /image/etc/ssl/certs/

FROM scratch
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="Longshore" \
      org.opencontainers.image.description="An OCI image registry: embedded, or replicas on Postgres and S3" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.source="https://github.com/longshore/longshore" \
      org.opencontainers.image.version="$VERSION" \
      org.opencontainers.image.revision="$REVISION"
COPY --from=build /image/usr /usr
COPY --from=build /image/etc /etc
# A new named volume takes its owner from here. A directory of the host must be given to this user: chown 65532 DIR.
COPY --from=build --chown=65532:65532 /image/data /data

# On loopback, the default, nobody outside the container would reach it. On this address it asks for a decision, and the
# image makes none: without auth.htpasswd or auth.open it says so and ends, for `-p 5000:5000` is open to the network.
ENV PATH=/usr/bin \
    LONGSHORE_HTTP__ADDRESS=0.0.0.0:5000 \
    LONGSHORE_STORAGE__PATH=/data
# Also where SQLite puts temporary files, as there is no /tmp.
WORKDIR /data
VOLUME /data
EXPOSE 5000
# Not root, and by number, so that Kubernetes can see that it is not.
USER 65532:65532
# The server is asked for /readyz, where the settings of the environment say that it listens. Kubernetes asks by itself. What
# ends the container has to allow for http.drain_timeout.
HEALTHCHECK --interval=10s --timeout=5s --retries=3 --start-period=60s CMD ["longshore", "health"]
# Subcommands follow: `docker run --rm longshore config reference`.
ENTRYPOINT ["longshore"]

# Unproven: written where no container engine runs. See docs/guide/container.md, also for what the open Admin port means.
FROM debian:12 AS build
RUN apt-get update && apt-get install -y --no-install-recommends make
COPY . /src
WORKDIR /src
RUN make install DESTDIR=/out

FROM debian:12
RUN apt-get update \
    && apt-get install -y --no-install-recommends nginx libjansson4 libyaml-0-2 libpcre2-8-0 libsqlite3-0 libnghttp2-14 libssl3 ca-certificates \
    && rm -rf /var/lib/apt/lists/*
COPY --from=build /out/ /
ENV SLUICE_NGINX_DAEMON=off \
    SLUICE_ADMIN_LISTEN=0.0.0.0:8001 \
    SLUICE_WASM_FILTERS_PATH=/filters
VOLUME /filters
EXPOSE 8000 8001
STOPSIGNAL SIGQUIT
CMD ["sluice", "start"]

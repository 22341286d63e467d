# The programs of jsnats as images; nats-server comes from its own. A build needs a package index and nothing else; where
# none can be reached, it takes the wheels in dist/wheels: --build-arg INDEX_OPTIONS=--no-index. A mirror is named there
# too: --build-arg INDEX_OPTIONS="--index-url https://..."
ARG BASE=python:3.13-slim

# ---------------------------------------------------------------- what is installed, as a venv
FROM ${BASE} AS core
ARG INDEX_OPTIONS
WORKDIR /build
# constraints.txt always matches, so that the folder of wheels need not be there.
COPY constraints.txt dist/wheel[s] wheels/
COPY constraints.txt pyproject.toml ./
RUN sed -n '/^uv==/,/[^\\]$/p' constraints.txt > uv.txt && python3 -m venv /opt/uv && python3 -m venv --without-pip /opt/jsnats \
    && /opt/uv/bin/pip install --quiet --no-cache-dir ${INDEX_OPTIONS} --find-links wheels --require-hashes -r uv.txt
ENV INSTALL="/opt/uv/bin/uv pip install --quiet --no-cache --no-sources --compile-bytecode --python /opt/jsnats --find-links wheels -c constraints.txt -b constraints.txt ${INDEX_OPTIONS}"
RUN ${INSTALL} -r pyproject.toml paho-mqtt
COPY . .
RUN ${INSTALL} .

FROM core AS drivers
ARG DRIVERS="composite network opendal[agent] power pyserial[agent] qemu[agent] shell simboard[agent]"
RUN for driver in ${DRIVERS}; do set -- "$@" "./drivers/jsnats-driver-${driver}"; done; ${INSTALL} . "$@"

# ---------------------------------------------------------------- where it runs: nobody's root, a read-only file system
FROM ${BASE} AS base
# A volume that is mounted for the first time takes its owner from the folder of the image: /state is what a service
# keeps, /services/NAME the same folder as init sees it.
ARG SERVICES="agent-1 agent-2 agent-serial phone recorder"
RUN groupadd --gid 1000 jsnats \
    && useradd --uid 1000 --gid 1000 --home-dir /state --no-create-home --shell /usr/sbin/nologin jsnats \
    && mkdir /services && cd /services \
    && install -d -o jsnats -g jsnats -m 0700 /data /state /var/lib/jsnats /var/lib/jsnats/lab /var/lib/jsnats/lab/conf ${SERVICES}
ENV PATH=/opt/jsnats/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 \
    XDG_STATE_HOME=/var/lib XDG_CONFIG_HOME=/state XDG_CACHE_HOME=/state/cache
WORKDIR /state
USER jsnats

# The scheduler, the commands, subscribers.
FROM base AS lab
COPY --from=core /opt/jsnats /opt/jsnats
CMD ["jsnats", "broker", "serve"]

# An exporter agent: its files are mounted at /etc/jsnats, its credentials lie in /state.
FROM base AS agent
COPY --from=drivers /opt/jsnats /opt/jsnats
CMD ["sh", "-c", "exec jsnats agent run /etc/jsnats/*.yaml --credentials /state"]

# The same with virtual boards of arm64. A base that has QEMU already is taken as it is.
FROM agent AS agent-qemu
USER root
RUN command -v qemu-system-aarch64 || { apt-get update -qq \
    && apt-get install -qq -y --no-install-recommends qemu-system-arm qemu-utils ipxe-qemu u-boot-qemu && rm -rf /var/lib/apt/lists/*; }
USER jsnats

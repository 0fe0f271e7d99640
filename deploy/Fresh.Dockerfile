# syntax=docker/dockerfile:1
# What a newcomer does, on a Debian that has nothing: the two commands of the README, and the wheel in an
# environment of its own. `docker build -f deploy/Fresh.Dockerfile --target demo .`; also wheel and tests.

FROM debian:trixie-slim AS debian
RUN apt-get update -q && apt-get install -y -q --no-install-recommends \
    python3 python3-venv ca-certificates make git && useradd --create-home ada

FROM debian AS clone
COPY --chown=ada:ada . /home/ada/tamis
USER ada
WORKDIR /home/ada/tamis
ENV HOME=/home/ada
RUN mkdir -p ~/.cache/pip

FROM clone AS demo
RUN --mount=type=cache,id=pip,uid=1000,target=/home/ada/.cache/pip make demo
RUN --network=none make demo

FROM demo AS tests
RUN --network=none make test

FROM debian AS wheel
COPY --chown=ada:ada dist /dist
USER ada
WORKDIR /home/ada
ENV HOME=/home/ada
RUN mkdir -p ~/.cache/pip
RUN --mount=type=cache,id=pip,uid=1000,target=/home/ada/.cache/pip python3 -m venv empty && empty/bin/pip install -q /dist/tamis-*.whl /dist/tamis_agents-*.whl
RUN empty/bin/tamis models pull smollm2-135m
RUN --network=none printf 'Keys are rotated every 90 days. Rooms are painted in spring.' | \
    empty/bin/tamis compress -q 'How are keys rotated?' --max-tokens 10

#!/bin/sh
# The steps of the image, called one by one by the Dockerfile: `sh build.sh STEP`.
set -eu

venv=/opt/tamis/venv
export PIP_DISABLE_PIP_VERSION_CHECK=1 DEBIAN_FRONTEND=noninteractive

packages() {
  apt-get update -q
  apt-get install -y -q --no-install-recommends "$@"
  rm -rf /var/lib/apt/lists/*
}

case "${1:-}" in
builder) # what builds: Python with venv
  packages python3 python3-venv ca-certificates
  ;;
runtime) # what runs: Python alone, and a user who owns nothing
  packages python3
  groupadd --gid 10001 tamis
  useradd --uid 10001 --gid 10001 --no-create-home --home-dir /tmp --shell /usr/sbin/nologin tamis
  ;;
wheel) # FOLDER OUT: the wheels of tamis and tamis-agents, of the sources in a folder
  python3 -m venv /opt/build
  /opt/build/bin/pip install -q build
  /opt/build/bin/python -m build --wheel --outdir "$3" "$2"
  /opt/build/bin/python -m build --wheel --outdir "$3" "$2/agents"
  ;;
torch) # torch alone, from an index of its own where TORCH_INDEX names one: it is most of the image
  python3 -m venv "$venv"
  "$venv/bin/pip" install -q ${TORCH_INDEX:+--index-url "$TORCH_INDEX"} "torch>=2.6"
  "$venv/bin/python" -c 'import torch; print("torch", torch.__version__)'
  ;;
install) # WHEELS EXTRAS: the wheels of that folder, the extras of tamis
  "$venv/bin/pip" install -q "$(echo "$2"/tamis-*.whl)[$3]" "$2"/tamis_agents-*.whl
  "$venv/bin/pip" check
  ;;
model) # HOME [NAME]...: models in a folder that the image takes along
  home=$2
  shift 2
  "$venv/bin/tamis" models pull "$@" --home "$home"
  chmod -R a+rX "$home"
  ;;
*)
  echo "usage: build.sh builder | runtime | wheel | torch | install | model" >&2
  exit 2
  ;;
esac

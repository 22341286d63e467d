#!/usr/bin/env bash
# Runs a command with all that board.yaml needs: a folder for the board, a free port, the path to its drivers.
#   sdk/examples/demo/board.sh jsnats up sdk/examples/demo/board.yaml
set -eu
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
SIMBOARD=$(mktemp -d "${TMPDIR:-/tmp}/simboard-XXXXXX")
trap 'rm -rf "$SIMBOARD"' EXIT
SIMBOARD_PORT=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
export SIMBOARD SIMBOARD_PORT PYTHONPATH="$here${PYTHONPATH:+:$PYTHONPATH}"
"$@"

#!/usr/bin/env bash
# A whole lab on this machine for the length of a tour; it leaves nothing running and nothing on disk.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
exec jsnats up "$here/board.yaml" -- "$here/tour.sh"

#!/usr/bin/env bash
# What a user does in the lab, step by step. `jsnats up` runs it with the lab's environment.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
lab=$(dirname "$(dirname "$JSNATS_CONTEXT")")

step() { printf '\n\033[1m%s\033[0m\n' "$*"; }
run() { printf '$ %s\n' "$*"; "$@"; }

step "A lab: a broker, an exporter agent, and us. What is there?"
run jsnats ls
run jsnats tree bench-1

step "Take the board: nobody else may call it until we give it back, and then it is torn down."
printf '$ jsnats lease create -l board=sim --duration 10m --note tour\n'
lease=$(jsnats lease create -l board=sim --duration 10m --note tour | cut -d' ' -f1)
run jsnats ls
run jsnats lease ls

step "Flash an image. It is uploaded once; the second time only its name travels."
image=$lab/board.img
head -c 24000000 /dev/urandom > "$image"
run j dut storage flash "$image"
run j dut storage flash "$image"

step "Switch the power on, and follow the console from the very first byte."
run j dut power on
run jsnats console bench-1.dut.serial --watch --from-boot --until 'login: ' --timeout 20

step "Drive it from Python: expect, send, expect."
run python3 "$here/login.py"

step "Reach the board's web server through a port of this machine."
printf '$ j dut web forward-tcp 0 &\n'
j dut web forward-tcp 0 > "$lab/address" &
forward=$!
while [ ! -s "$lab/address" ]; do sleep 0.05; done
run python3 -c 'import sys, urllib.request; print(urllib.request.urlopen(sys.argv[1]).read().decode().strip())' \
    "http://$(head -n 1 "$lab/address")/"
kill "$forward"
wait "$forward" || true

step "Readings stream as the supply makes them. A method's arguments are checked by its published schema."
run j dut power read -n 5
run jsnats call bench-1.dut.power.cycle --wait 0.3
printf '$ jsnats call bench-1.dut.power.cycle soon\n'
jsnats call bench-1.dut.power.cycle soon || true

step "A real command on the exporter's host, its output line by line."
run j host kernel
run j host build

step "The broker is killed in mid-stream: no reading is lost, and no byte of the console."
readings=$lab/readings.jsonl
printf '$ jsnats stream bench-1.dut.power.read --limit 25 &\n'
jsnats stream bench-1.dut.power.read --limit 25 > "$readings" &
stream=$!
while [ ! -s "$readings" ]; do sleep 0.05; done
run kill -9 "$(cat "$lab/nats.pid")"
wait "$stream"
tail -n 2 "$readings"
printf '%s of 25 readings arrived\n' "$(wc -l < "$readings")"
run jsnats console bench-1.dut.serial --no-follow --from-boot --search 'Linux|login'

step "Give the board back. What happened to it, for who asks tomorrow?"
run jsnats lease release "$lease"
until jsnats ls --free --json | grep -q bench-1; do sleep 0.1; done # until it is torn down
run jsnats history bench-1

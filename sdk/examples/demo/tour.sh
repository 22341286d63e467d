#!/usr/bin/env bash
# What a user does in the lab, step by step. `jsnats up` runs it with the lab's environment.
set -eu

step() { printf '\n\033[1m%s\033[0m\n' "$*"; }
run() { printf '$ %s\n' "$*"; "$@"; }

step "A lab: a broker, an exporter agent, and us. What is there?"
run jsnats ls
run jsnats tree bench-1

step "Switch the power on. The readings stream as the supply makes them."
run j dut power on
run j dut power read -n 8

step "A method with arguments, checked by its published schema."
run jsnats call bench-1.dut.power.cycle --wait 0.3
printf '$ jsnats call bench-1.dut.power.cycle soon\n'
jsnats call bench-1.dut.power.cycle soon || true

step "A real command on the exporter's host, its output line by line through JetStream."
run j host kernel
run j host build

step "The broker is killed in mid-stream, and no reading is lost."
lab=$(dirname "$(dirname "$JSNATS_CONTEXT")")
readings=$lab/readings.jsonl
printf '$ jsnats stream bench-1.dut.power.read --limit 25 &\n'
jsnats stream bench-1.dut.power.read --limit 25 > "$readings" &
stream=$!
while [ ! -s "$readings" ]; do sleep 0.05; done
run kill -9 "$(cat "$lab/nats.pid")"
wait "$stream"
tail -n 2 "$readings"
printf '%s of 25 readings arrived\n' "$(wc -l < "$readings")"

step "Power off, and the lab goes away with this command."
run j dut power off

#!/usr/bin/env bash
# Runs client.py against three regions on this machine: a client that knows the
# service by server reflection only.
#
#   deploy/test-client.sh --binary target/release/hansa [--python FILE] [--require]
#
# It starts three nodes (`hansa serve`) on free loopback ports with the keyspaces of
# compose/topology.toml, in a temporary folder; runs client.py from each region to
# the next; stops the nodes by their process ids and looks at their exit codes.
#
#   --binary FILE   the hansa binary
#   --python FILE   a Python 3 that has grpcio and grpcio-reflection; without it python3
#                   is taken, and when that has not got them, a virtual environment
#                   in the temporary folder into which pip installs them
#   --require       exit 3 when it could not be run, instead of 0
#
# What was not run is said in a line that starts with "not run:". Exit code: 0 all
# that was run passed, 1 something failed, 2 wrong arguments, 3 see --require.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
regions=(us-east eu-central ap-northeast)
binary='' python='' require=no work='' step=arguments
nodes=() clients=() peers=()

say() { printf 'test-client: %s\n' "$*"; }
fail() { say "FAILED at $step: $*"; exit 1; }
not_run() {
    printf 'not run: python client (%s): %s\n' "$step" "$*"
    [[ $require = no ]] || exit 3
    exit 0
}

parse() {
    while (($#)); do
        case $1 in
        --binary | --python)
            (($# > 1)) || { say "$1 needs a value"; exit 2; }
            if [[ $1 = --binary ]]; then binary=$2; else python=$2; fi
            shift
            ;;
        --require) require=yes ;;
        *) say "unknown argument $1"; exit 2 ;;
        esac
        shift
    done
}

# Ends the nodes by their own process ids and removes what was made, whatever
# happened before.
clean_up() {
    local code=$? node
    trap - EXIT
    set +e
    for node in "${nodes[@]}"; do
        kill -KILL "$node" 2>/dev/null
        wait "$node" 2>/dev/null
    done
    if ((code == 1)); then
        say "the nodes' last warnings, if any:"
        grep -hE ' (WARN|ERROR) ' "$work"/*.log | tail -n 10
    fi
    rm -rf --one-file-system "$work"
    exit "$code"
}

tools() {
    step=tools
    [[ -n $binary ]] || not_run "no --binary given; build one with: cargo build --release --package hansa"
    [[ -f $binary && -x $binary ]] || not_run "$binary is not an executable file"
    binary=$(realpath "$binary")
    work=$(mktemp -d)
    trap clean_up EXIT
    if [[ -z $python ]]; then
        command -v python3 >/dev/null || not_run "python3 is missing"
        python=python3
        has_grpc || virtual_environment
    else
        has_grpc || not_run "$python has no grpcio with grpcio-reflection"
    fi
    say "$("$python" -c 'import grpc, sys; print("Python", sys.version.split()[0] + ", grpcio", grpc.__version__)')"
}

has_grpc() { "$python" -c 'import grpc, grpc_reflection.v1alpha' 2>/dev/null; }

virtual_environment() {
    python3 -m venv "$work/venv" >"$work/venv.out" 2>&1 ||
        not_run "python3 makes no virtual environment: $(tail -n 1 "$work/venv.out")"
    python=$work/venv/bin/python
    "$python" -m pip install --quiet --disable-pip-version-check grpcio grpcio-reflection \
        >"$work/pip.out" 2>&1 || not_run "pip: $(tail -n 1 "$work/pip.out")"
    has_grpc || not_run "pip installed something that cannot be imported"
}

# All at once, so that they differ. Somebody else may take one before a node does:
# then the node says so and the run fails, and can be repeated.
free_ports() {
    "$python" - "$1" <<'PYTHON'
import socket, sys
sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(int(sys.argv[1]))]
print(*(one.getsockname()[1] for one in sockets))
PYTHON
}

# The shipped keyspaces, and regions of our own.
write_topology() {
    local at
    {
        printf 'cluster_id = "test-client"\nepoch = 1\n'
        for at in "${!regions[@]}"; do
            printf '\n[[regions]]\nname = "%s"\nnodes = [{ name = "%s-1", %s, %s }]\n' \
                "${regions[at]}" "${regions[at]}" \
                "peer_address = \"${peers[at]}\"" "client_address = \"${clients[at]}\""
        done
        sed -n '/^\[\[keyspaces\]\]/,$p' "$here/compose/topology.toml"
    } >"$work/topology.toml"
}

start_nodes() {
    step="start of the nodes"
    local ports at
    read -ra ports <<<"$(free_ports $((2 * ${#regions[@]})))"
    for at in "${!regions[@]}"; do
        clients+=("127.0.0.1:${ports[2 * at]}")
        peers+=("127.0.0.1:${ports[2 * at + 1]}")
    done
    write_topology
    for at in "${!regions[@]}"; do
        # Without this shell's HANSA_ variables.
        env -i "$binary" serve --node "${regions[at]}-1" --topology "$work/topology.toml" \
            --data-dir "$work/${regions[at]}" --listen "${clients[at]}" \
            --peer-listen "${peers[at]}" --metrics-listen off \
            >"$work/${regions[at]}.log" 2>&1 &
        nodes+=($!)
    done
    for at in "${!regions[@]}"; do wait_for "$at"; done
    say "three regions serve strong"
}

# Until the node serves a strong read: found (0) or not (1).
wait_for() {
    local at=$1 code
    for _ in $(seq 150); do
        kill -0 "${nodes[at]}" 2>/dev/null ||
            fail "${regions[at]} ended: $(tail -n 1 "$work/${regions[at]}.log")"
        code=0
        env -i "$binary" kv get profiles ready --level strong --endpoint "${clients[at]}" \
            >"$work/ready.out" 2>&1 || code=$?
        ((code > 1)) || return 0
        sleep 0.2
    done
    fail "${regions[at]} does not serve strong: $(cat "$work/ready.out")"
}

run_client() {
    step="client.py"
    local at next
    for at in "${!regions[@]}"; do
        next=$(((at + 1) % ${#regions[@]}))
        "$python" "$here/client.py" "${clients[at]}" "${clients[next]}" >"$work/client.out" 2>&1 ||
            { cat "$work/client.out"; fail "from ${regions[at]} to ${regions[next]}"; }
        # One report is enough to read.
        ((at > 0)) || cat "$work/client.out"
        say "from ${regions[at]} to ${regions[next]}: ok"
    done
}

stop_nodes() {
    step="stop of the nodes"
    local at code
    for at in "${!regions[@]}"; do kill -TERM "${nodes[at]}"; done
    for at in "${!regions[@]}"; do
        code=0
        wait "${nodes[at]}" || code=$?
        ((code == 0)) || fail "${regions[at]} ended with $code after SIGTERM"
    done
    nodes=()
    say "three nodes stopped with exit code 0"
}

parse "$@"
tools
start_nodes
run_client
stop_nodes
step="end"
say "ok"

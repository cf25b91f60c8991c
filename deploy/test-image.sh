#!/usr/bin/env bash
# Starts the container image and the compose file once for real.
#
#   deploy/test-image.sh --binary target/release/hansa [--base-tar FILE] [--require]
#
# It starts a Docker engine of its own (own socket, own data root in a temporary
# folder, no change to the host's packet filter); makes the base image; builds the
# image around the given binary; starts the three regions of compose.yaml and waits
# until all are healthy; does a put and a get at every level, in the containers and
# through the published ports; reads the metrics; kills one node and reads everything
# again; stops all with SIGTERM; and removes everything. Needs root and the ports of
# compose.yaml, and Debian or the commands dockerd, docker, debootstrap and
# docker-compose installed.
#
#   --binary FILE    the hansa binary, built against this machine's glibc or older
#   --base-tar FILE  keep the base file system here and use it again next time
#   --require        exit 3 when something could not be run, instead of 0
#
# What was not run is said in lines that start with "not run:". Exit code: 0 all
# that was run passed, 1 something failed, 2 wrong arguments, 3 see --require.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
base=debian:12-slim
suite=bookworm
image=hansa:test
project=hansa-image-test
regions=(us-east eu-central ap-northeast)
# As seen in a container, and as published by compose.yaml in the regions' order.
endpoint=http://127.0.0.1:7101
client_ports=(7101 7102 7103)
metrics_ports=(9464 9465 9466)

binary='' base_tar='' require=no work='' engine='' step=arguments compose_command=()
declare -A container

say() { printf 'test-image: %s\n' "$*"; }
fail() { say "FAILED at $step: $*"; exit 1; }
not_run() {
    printf 'not run: container image (%s): %s\n' "$step" "$*"
    [[ $require = no ]] || exit 3
    exit 0
}

parse() {
    while (($#)); do
        case $1 in
        --binary | --base-tar)
            (($# > 1)) || { say "$1 needs a value"; exit 2; }
            if [[ $1 = --binary ]]; then binary=$2; else base_tar=$2; fi
            shift
            ;;
        --require) require=yes ;;
        *) say "unknown argument $1"; exit 2 ;;
        esac
        shift
    done
}

# The shipped configurations are checked by a test of the binary (client/cli/tests/config.rs).
given_binary() {
    step=arguments
    [[ -n $binary ]] || not_run "no --binary given; build one with: cargo build --release --package hansa"
    [[ -f $binary && -x $binary ]] || not_run "$binary is not an executable file"
    binary=$(realpath "$binary")
}

# Ends the engine by its own process id and removes what was made, whatever
# happened before.
clean_up() {
    local code=$?
    trap - EXIT
    set +e
    if [[ -n $engine ]]; then
        compose down --volumes --timeout 10 >/dev/null 2>&1
        kill "$engine" 2>/dev/null
        wait "$engine" 2>/dev/null
    fi
    if [[ -n $work ]]; then
        if ((code == 1)) && [[ -f $work/engine.log ]]; then
            say "errors in the engine's log, if any:"
            grep -E 'level=(error|fatal)' "$work/engine.log" | tail -n 10
        fi
        rm -rf --one-file-system "$work"
    fi
    exit "$code"
}

# The socket has a one-letter name: a unix socket's path is limited to 107 bytes.
engine_docker() { DOCKER_HOST=unix://$work/s docker "$@"; }
compose() {
    HANSA_IMAGE=$image DOCKER_HOST=unix://$work/s \
        "${compose_command[@]}" --project-name "$project" --file "$here/compose.yaml" "$@"
}

# Installs a Debian package that brings a missing command.
need() {
    local command=$1 package=$2
    command -v "$command" >/dev/null && return
    command -v apt-get >/dev/null || not_run "$command is missing and there is no apt-get"
    say "installing $package for $command"
    # RUNLEVEL keeps the package from starting an engine of its own.
    { apt-get update -qq && RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive \
        apt-get install -y -qq --no-install-recommends "$package"; } >"$work/apt.log" 2>&1 ||
        not_run "package $package cannot be installed: $(tail -n 1 "$work/apt.log")"
}

tools() {
    step=tools
    ((EUID == 0)) || not_run "needs root to start a Docker engine"
    local port
    for port in "${client_ports[@]}" "${metrics_ports[@]}"; do
        ! (: >"/dev/tcp/127.0.0.1/$port") 2>/dev/null || not_run "port $port is in use, by a demo perhaps"
    done
    work=$(mktemp -d)
    trap clean_up EXIT
    need dockerd docker.io
    need docker docker.io
    if docker compose version >/dev/null 2>&1; then
        compose_command=(docker compose)
    else
        need docker-compose docker-compose
        compose_command=(docker-compose)
    fi
}

start_engine() {
    step=engine
    # No docker0 bridge, no packet filter rules, no forwarding switched on: the
    # compose network and the port proxies need none of them.
    dockerd --host "unix://$work/s" --pidfile "$work/pid" \
        --data-root "$work/data" --exec-root "$work/exec" \
        --bridge=none --iptables=false --ip6tables=false --ip-forward=false \
        >"$work/engine.log" 2>&1 &
    engine=$!
    for _ in $(seq 120); do
        if engine_docker info >"$work/info" 2>/dev/null; then
            say "engine $(engine_docker version --format '{{.Server.Version}}')," \
                "storage $(engine_docker info --format '{{.Driver}}')"
            return
        fi
        if ! kill -0 "$engine" 2>/dev/null; then
            local reason
            reason=$(tail -n 1 "$work/engine.log")
            engine=
            not_run "the engine does not start here: $reason"
        fi
        sleep 0.5
    done
    not_run "the engine did not answer within 60 s"
}

base_image() {
    step="base image"
    if [[ -n $base_tar && -s $base_tar ]]; then
        say "base image from $base_tar"
    elif timeout 60 docker --host "unix://$work/s" pull --quiet "$base" >"$work/pull.log" 2>&1; then
        say "base image $base pulled"
        return
    else
        say "not pulled: $(tail -n 1 "$work/pull.log")"
        need debootstrap debootstrap
        say "making a $suite base with debootstrap"
        debootstrap --variant=minbase "$suite" "$work/rootfs" >"$work/debootstrap.log" 2>&1 ||
            not_run "debootstrap: $(tail -n 1 "$work/debootstrap.log")"
        # What the published slim images leave out too.
        rm -rf "$work"/rootfs/var/cache/apt/* "$work"/rootfs/var/lib/apt/lists/* \
            "$work"/rootfs/usr/share/{doc,man,info,locale}/*
        : "${base_tar:=$work/base.tar}"
        tar --numeric-owner -C "$work/rootfs" -cf "$base_tar.part" .
        mv "$base_tar.part" "$base_tar"
    fi
    base=hansa-base:$suite
    engine_docker import "$base_tar" "$base" >/dev/null || fail "docker import"
}

build_image() {
    step="image build"
    mkdir -p "$work/context/data"
    # As the Dockerfile does, where the machine can.
    strip --strip-debug -o "$work/context/hansa" "$binary" 2>/dev/null ||
        cp "$binary" "$work/context/hansa"
    chmod 0755 "$work/context/hansa"
    engine_docker build --quiet --target runtime --build-arg "BASE_IMAGE=$base" \
        --file "$here/container/Dockerfile" --tag "$image" "$work/context" \
        >"$work/build.log" 2>&1 || fail "$(tail -n 5 "$work/build.log")"
    local user health
    user=$(engine_docker inspect --format '{{.Config.User}}' "$image")
    [[ $user = 65532:65532 ]] || fail "image runs as '$user', not as 65532:65532"
    health=$(engine_docker inspect --format '{{json .Config.Healthcheck.Test}}' "$image")
    [[ $health = *'"/usr/local/bin/hansa","status"'* ]] || fail "health check is $health"
    engine_docker run --rm --network none "$image" --version >"$work/version" 2>&1 ||
        fail "the binary does not run in the image: $(cat "$work/version")"
    say "image built: $(cat "$work/version")," \
        "$(($(engine_docker inspect --format '{{.Size}}' "$image") >> 20)) MiB with its base"
}

# Until the region's health check says so.
wait_healthy() {
    local region=$1 state
    for _ in $(seq 120); do
        state=$(engine_docker inspect --format '{{.State.Status}} {{.State.Health.Status}}' \
            "${container[$region]}")
        case $state in
        "running healthy") return ;;
        running*) sleep 0.5 ;;
        *) break ;;
        esac
    done
    engine_docker inspect --format '{{range .State.Health.Log}}{{.ExitCode}} {{.Output}}{{end}}' \
        "${container[$region]}" | tail -n 5
    engine_docker logs --tail 20 "${container[$region]}" || true
    fail "$region is '$state'"
}

start_regions() {
    step="start of the regions"
    local region began=$SECONDS
    compose up --detach --no-build >"$work/up.log" 2>&1 || fail "$(tail -n 5 "$work/up.log")"
    for region in "${regions[@]}"; do
        container[$region]=$(compose ps -q "$region")
        wait_healthy "$region"
    done
    say "three regions are healthy after $((SECONDS - began)) s"
}

# The binary in a container, talking to its own node.
hansa() {
    local region=$1
    shift
    engine_docker exec "${container[$region]}" /usr/local/bin/hansa "$@"
}

# The exit codes on which the health check rests.
health_exit_codes() {
    step="health check"
    local code=0
    hansa us-east status --endpoint "$endpoint" >"$work/status.log" 2>&1 ||
        fail "status of a node that answers: $(cat "$work/status.log")"
    # The discard port: nobody is there.
    hansa us-east status --endpoint http://127.0.0.1:9 >"$work/status.log" 2>&1 || code=$?
    ((code == 5)) || fail "status of nobody ends with $code, not with 5"
    say "hansa status ends with 0 for a node that answers and with 5 for nobody"
}

# Reads until the value is there: an eventual write is on its way for a while.
expect() {
    local region=$1 level=$2 key=$3 value=$4 got=
    for _ in $(seq 60); do
        got=$(hansa "$region" kv get profiles "$key" --level "$level" 2>&1) || true
        [[ $got = "$value" ]] && return
        # Only an eventual read may be behind.
        [[ $level = eventual ]] || break
        sleep 0.5
    done
    fail "$level get of $key in $region gave '$got', not '$value'"
}

levels() {
    step="levels"
    local level
    for level in eventual session strong; do
        hansa us-east kv put profiles "image-test/$level" "written-$level" --level "$level" \
            >"$work/put.log" 2>&1 || fail "$level put: $(cat "$work/put.log")"
        expect us-east "$level" "image-test/$level" "written-$level"
        # A session without its token promises nothing elsewhere.
        [[ $level = session ]] || expect ap-northeast "$level" "image-test/$level" "written-$level"
        say "$level: put and get"
    done
}

# The machine's own binary through the published ports: one session, its token in a
# file, writes in the first region and reads in the others.
published_ports() {
    step="published ports"
    local at got
    env -i "$binary" kv put profiles image-test/moved moved --level session \
        --session "$work/session" --endpoint "http://127.0.0.1:${client_ports[0]}" \
        >"$work/put.log" 2>&1 || fail "put: $(cat "$work/put.log")"
    for at in 1 2; do
        got=$(env -i "$binary" kv get profiles image-test/moved --level session \
            --session "$work/session" --endpoint "http://127.0.0.1:${client_ports[at]}" 2>&1) || true
        [[ $got = moved ]] || fail "the session saw '$got' in ${regions[at]}"
    done
    say "a session moved through three published ports"
    for at in "${!regions[@]}"; do
        got=$(http_get "${metrics_ports[at]}" /metrics)
        grep -q "^hansa_standing{.*region=\"${regions[at]}\".*standing=\"voting\".*} 1$" <<<"$got" ||
            fail "the metrics of ${regions[at]} do not say that it votes"
    done
    say "the metrics of three regions say that they vote"
}

http_get() {
    exec 3<>"/dev/tcp/127.0.0.1/$1"
    printf 'GET %s HTTP/1.0\r\nHost: localhost\r\n\r\n' "$2" >&3
    cat <&3
    exec 3>&-
}

# A node that is killed loses nothing that was acknowledged: its data is in its volume.
kill_one() {
    step="kill of us-east"
    local level began=$SECONDS
    engine_docker kill --signal KILL "${container[us-east]}" >/dev/null || fail "kill"
    engine_docker wait "${container[us-east]}" >/dev/null || fail "wait"
    expect ap-northeast strong image-test/strong written-strong
    engine_docker start "${container[us-east]}" >/dev/null || fail "start"
    wait_healthy us-east
    for level in eventual session strong; do
        expect us-east "$level" "image-test/$level" "written-$level"
    done
    say "us-east was killed, strong went on without it, and it came back with its data after" \
        "$((SECONDS - began)) s"
}

stop_regions() {
    step="stop of the regions"
    local region code began=$SECONDS
    compose stop >"$work/stop.log" 2>&1 || fail "$(tail -n 5 "$work/stop.log")"
    for region in "${regions[@]}"; do
        code=$(engine_docker inspect --format '{{.State.ExitCode}}' "${container[$region]}")
        [[ $code = 0 ]] || fail "$region ended with $code after SIGTERM"
    done
    say "three regions stopped with exit code 0 within $((SECONDS - began)) s"
}

parse "$@"
given_binary
tools
start_engine
base_image
build_image
start_regions
health_exit_codes
levels
published_ports
kill_one
stop_regions
step="end"
say "ok"

#!/bin/sh
# @purpose@ provisioner-handoff.service runs it at boot; with the word `wait` it waits for another round.
#
# Exit status: 0 done and reported, nothing is left of it; 1 not reported yet, run it again; 3 failed and reported, or
# no other round came.
set -u
umask 077
root=${PROVISIONER_ROOT-} # for tests
dir=$root/etc/provisioner
secrets=$dir/secrets # each in a file of its own; the installer left them there
log=$root/var/log/provisioner-handoff.log
result=$dir/handoff.result     # "ok 0" or "failed 7": the run is over, whether or not anybody knows
reported=$dir/handoff.reported # it failed, and the server knows
url=@url@
base=${url%/configured}
mkdir -p "$dir" "$root/var/log"

say() {
    echo "provisioner: $1"
}

# SECONDS COMMAND...: runs the command, and ends it when the time is up.
limited() {
    if timeout -k 1 1 true 2>/dev/null; then
        limited_seconds=$1
        shift
        timeout -k 30 "$limited_seconds" "$@"
    else
        shift
        "$@"
    fi
}

# SECONDS COMMAND...: repeats the command until it succeeds or the time is up, waiting 5, 10, 20, ... 60 seconds between.
patiently() {
    patiently_end=$(($(date +%s) + $1))
    patiently_pause=5
    shift
    while :; do
        "$@" && return 0
        patiently_code=$?
        [ "$(date +%s)" -lt "$patiently_end" ] || return "$patiently_code"
        say "trying again in $patiently_pause s"
        sleep "$patiently_pause"
        patiently_pause=$((patiently_pause < 30 ? patiently_pause * 2 : 60))
    done
}

# COMMAND PACKAGE...: installs the packages unless the command is there.
need() {
    command -v "$1" >/dev/null 2>&1 && return 0
    say "$1 is not installed; installing it"
    shift
    if command -v apt-get >/dev/null 2>&1; then
        export DEBIAN_FRONTEND=noninteractive
        apt-get -q update && apt-get -q -y --no-install-recommends install "$@"
    elif command -v dnf >/dev/null 2>&1; then
        dnf -q -y install "$@"
    elif command -v yum >/dev/null 2>&1; then
        yum -q -y install "$@"
    elif command -v zypper >/dev/null 2>&1; then
        zypper --non-interactive --quiet install "$@"
    else
        say "there is no apt-get, dnf, yum or zypper to install $* with"
        return 1
    fi
}

# Standard input as a form value, without control characters.
encode() {
    tr -d '\000-\010\013-\037' |
        LC_ALL=C sed -e 's/%/%25/g' -e 's/&/%26/g' -e 's/+/%2B/g' -e 's/=/%3D/g' -e 's/;/%3B/g' -e 's/ /+/g' |
        awk '{ printf "%s%s", lf, $0; lf = "%0A" }'
}

# URL FILE: posts the form once and prints the answer; succeeds on a 2xx. The URL has the token in it, and everybody on
# this machine can see command lines; so it goes another way, but to busybox's wget, which knows none.
post() {
    if command -v curl >/dev/null 2>&1; then
        printf 'url = "%s"\n' "$1" | curl -fsS --max-time 60 --data-binary "@$2" -K -
    elif command -v python3 >/dev/null 2>&1; then
        printf '%s' "$1" | python3 -c 'import sys, urllib.request
body = urllib.request.urlopen(sys.stdin.read(), open(sys.argv[1], "rb").read(), 60).read()
sys.stdout.buffer.write(body)' "$2"
    elif wget --help 2>&1 | grep -q -e --input-file; then
        printf '%s\n' "$1" | wget -q -T 60 -t 1 -O - --post-file="$2" -i -
    else
        limited 60 wget -q -O - --post-file="$2" "$1" # not -T: Debian's static busybox crashes on it
    fi
}

# Takes what the installer did not leave: another round has secrets of its own. A repetition has the same nonce, since
# replies get lost.
take_secrets() {
    for name in @secrets@; do
        [ ! -s "$secrets/$name" ] || continue
        mkdir -p "$secrets"
        printf 'nonce=%s' "$(cat /proc/sys/kernel/random/uuid)" >"$dir/handoff.nonce"
        for pause in 1 2 4 8 0; do
            post "$base/secret/$name" "$dir/handoff.nonce" >"$secrets/$name.new" && break
            sleep "$pause"
        done
        rm -f "$dir/handoff.nonce"
        if [ ! -s "$secrets/$name.new" ]; then
            say "the secret $name was refused or not to be had; \`provisioner build retry-handoff\` makes new ones"
            return 1
        fi
        echo >>"$secrets/$name.new"
        mv "$secrets/$name.new" "$secrets/$name"
    done
}

# ADDRESS: tells the server that this machine can be reached there and has these SSH host keys, and waits until the
# server has configured it (succeeds) or failed to.
ready() {
    {
        printf 'status=ready&address='
        printf '%s' "$1" | encode
        printf '&host_keys='
        cat "$root"/etc/ssh/ssh_host_*_key.pub | awk '{ print $1, $2 }' | encode
    } >"$dir/handoff.ready"
    ready_pause=2
    while :; do
        case $(post "$url" "$dir/handoff.ready") in
            *'"state":"configured"'*) return 0 ;;
            *'"state":"built"'*) ready_pause=5 ;;
            *'"state":'*) return 1 ;;
            *)
                say "Provisioner does not answer or refuses"
                ready_pause=$((ready_pause < 60 ? ready_pause * 2 : 60))
                ;;
        esac
        sleep "$ready_pause"
    done
}

handoff() {
take_secrets || return 75
@body@
}

# A production network may come up long after the unit starts: wait up to five minutes for a route.
wait_for_network() {
    waited=0
    while [ "$waited" -lt "${PROVISIONER_NETWORK_WAIT:-300}" ]; do
        { [ "$(wc -l </proc/net/route)" -gt 1 ] || grep -qv ' lo$' /proc/net/ipv6_route; } 2>/dev/null && return 0
        [ "$waited" -gt 0 ] || say "waiting for the network"
        sleep 5
        waited=$((waited + 5))
    done
    say "there is still no route; going on without"
}

# Tells the server what the log says while it grows.
stream() {
    pause=${PROVISIONER_STREAM_PAUSE:-10}
    [ "$pause" != 0 ] || return 0
    seen=0
    while sleep "$pause"; do
        size=$(wc -c <"$log")
        [ "$size" -gt "$seen" ] || continue
        seen=$size
        {
            printf 'status=running&message='
            tail -n 1 "$log" | tail -c 300 | encode
            printf '&log='
            tail -c 8192 "$log" | encode
        } >"$dir/handoff.tail"
        post "$url" "$dir/handoff.tail" >/dev/null 2>&1
        [ -n "${PROVISIONER_STREAM_PAUSE-}" ] || pause=$((pause < 60 ? pause + 10 : 60))
    done
}

run() {
    wait_for_network
    : >"$log"
    stream &
    streamer=$!
    (handoff) >>"$log" 2>&1 </dev/null
    code=$?
    kill "$streamer" 2>/dev/null
    wait "$streamer" 2>/dev/null
    case $code in
        @good@) echo "ok $code" >"$result.new" ;;
        *) echo "failed $code" >"$result.new" ;;
    esac
    mv "$result.new" "$result"
    rm -rf "$secrets" "$dir/handoff.ready" "$dir/handoff.tail"
    sync
}

# STATUS CODE: reports, waiting 2, 4, ... 64 seconds between tries.
report() {
    form=$dir/handoff.form
    {
        printf 'status=%s&exit_code=%s&message=' "$1" "$2"
        printf '@said@' "$2" | encode
        printf '&log='
        tail -c 61440 "$log" | encode
    } >"$form"
    for pause in 2 4 8 16 32 64 64 0; do
        if post "$url" "$form" >"$dir/handoff.answer"; then
            # What counts as a good run is decided there.
            if grep -q '"state":"failed"' "$dir/handoff.answer"; then
                status=failed
            fi
            rm -f "$form" "$dir/handoff.answer"
            return 0
        fi
        say "could not report; Provisioner does not answer or refuses"
        sleep "$pause"
    done
    rm -f "$form" "$dir/handoff.answer"
    return 1
}

# Asks whether somebody wants the handoff tried again; then the new script stands in the place of this one.
another_round() {
    : >"$dir/handoff.empty"
    post "$base/again" "$dir/handoff.empty" >"$dir/handoff.next" 2>/dev/null
    case $(head -c 2 "$dir/handoff.next") in
        '#!') ;;
        *)
            rm -f "$dir/handoff.next"
            return 1
            ;;
    esac
    chmod 700 "$dir/handoff.next"
    rm -rf "$result" "$reported" "$secrets"
    mv "$dir/handoff.next" "$dir/handoff.sh"
    sync
}

# For a day, ever more seldom; after that the next boot asks again.
wait_for_another_round() {
    waited=0
    pause=15
    while [ "$waited" -lt "${PROVISIONER_ROUND_WAIT:-86400}" ]; do
        sleep "$pause"
        waited=$((waited + pause))
        another_round && return 0
        pause=$((pause < 300 ? pause * 2 : 300))
    done
    return 3
}

if [ "${1-}" = wait ]; then
    wait_for_another_round
    exit
fi
if [ -e "$reported" ]; then
    if another_round; then
        exec "$dir/handoff.sh"
    fi
    say "@done@ failed; waiting for \`provisioner build retry-handoff\`"
    exit 3
fi
[ -e "$result" ] || run
read -r status code <"$result"
say "@done@: $status (exit status $code), log in $log"
report "$status" "$code" || exit 1
if [ "$status" != ok ]; then
    : >"$reported"
    exit 3
fi
if command -v systemctl >/dev/null 2>&1 && [ -z "$root" ]; then
    systemctl --no-reload disable provisioner-handoff.service >/dev/null 2>&1
fi
rm -f "$result" "$reported" "$dir"/handoff.*
exit 0

"""The script that runs on the finished machine at its first boot and reports how that went."""

import shlex
from collections.abc import Mapping

from provisioner.handoff import none
from provisioner.handoff.protocol import Settings
from provisioner.handoff.tools import tool

_SCRIPT = r"""#!/bin/sh
# @purpose@ provisioner-handoff.service runs it at boot.
#
# Exit status: 0 done and reported, nothing is left of it; 1 not reported yet, run it again; 3 failed and reported: it
# is run anew at the next boot, or by `systemctl restart provisioner-handoff.service`.
set -u
umask 077
root=${PROVISIONER_ROOT-} # for tests
dir=$root/etc/provisioner
log=$root/var/log/provisioner-handoff.log
result=$dir/handoff.result     # "ok 0" or "failed 7": the run is over, whether or not anybody knows
reported=$dir/handoff.reported # in which start of the unit a failure was reported
unit=${INVOCATION_ID-}         # systemd's name for this start of the unit
url=@url@
mkdir -p "$dir" "$root/var/log"

say() {
    echo "provisioner: $1"
}

# SECONDS COMMAND...: runs the command, and ends it when the time is up.
limited() {
    if timeout -k 1 1 true 2>/dev/null; then
        seconds=$1
        shift
        timeout -k 30 "$seconds" "$@"
    else
        shift
        "$@"
    fi
}

handoff() {
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

# Standard input as a form value, without control characters.
encode() {
    tr -d '\000-\010\013-\037' |
        LC_ALL=C sed -e 's/%/%25/g' -e 's/&/%26/g' -e 's/+/%2B/g' -e 's/=/%3D/g' -e 's/;/%3B/g' -e 's/ /+/g' |
        awk '{ printf "%s%s", lf, $0; lf = "%0A" }'
}

# FILE: posts the form once; succeeds on a 2xx answer.
post() {
    if command -v curl >/dev/null 2>&1; then
        curl -fsS --max-time 60 -o /dev/null --data-binary "@$1" "$url"
    elif command -v wget >/dev/null 2>&1; then
        wget -q -T 60 -O /dev/null --post-file="$1" "$url"
    else
        python3 -c 'import sys, urllib.request
urllib.request.urlopen(sys.argv[2], open(sys.argv[1], "rb").read(), 60)' "$1" "$url"
    fi
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
        if post "$form"; then
            rm -f "$form"
            return 0
        fi
        say "could not report; Provisioner does not answer or refuses"
        sleep "$pause"
    done
    rm -f "$form"
    return 1
}

if [ -n "$unit" ] && [ "$(cat "$reported" 2>/dev/null)" = "$unit" ]; then
    exit 3
fi
if [ -e "$reported" ]; then # an earlier start failed: this one runs anew
    rm -f "$result" "$reported"
fi
if [ ! -e "$result" ]; then
    wait_for_network
    (handoff) >"$log" 2>&1 </dev/null
    code=$?
    if [ "$code" -eq 0 ]; then echo "ok 0"; else echo "failed $code"; fi >"$result.new"
    mv "$result.new" "$result"
    sync
fi
read -r status code <"$result"
say "@done@: $status (exit status $code), log in $log"
report "$status" "$code" || exit 1
if [ "$status" != ok ]; then
    echo "$unit" >"$reported"
    exit 3
fi
if command -v systemctl >/dev/null 2>&1 && [ -z "$root" ]; then
    systemctl --no-reload disable provisioner-handoff.service >/dev/null 2>&1
fi
rm -f "$result" "$reported" "$dir/handoff.sh"
exit 0
"""


def handoff_script(name: str, settings: Settings, urls: Mapping[str, str]) -> str:
    """The complete script for a tool: POSIX sh that needs sed, awk, tail and one of curl, wget or python3.

    It runs the tool's body once, remembers the result across reboots until it is reported to ``urls["configured"]``
    (``status``, ``exit_code``, ``message``, ``log``: at most 60 KiB of the end), and after a reported success removes
    itself with its token. Raises UnknownReference for an unknown tool.
    """
    chosen = tool(name)
    url = shlex.quote(urls["configured"])
    return (
        _SCRIPT.replace("@purpose@", _purpose(chosen.name), 1)
        .replace("@done@", "the first boot" if chosen.name == none.name else f"the handoff to {chosen.name}", 1)
        .replace("@said@", _said(chosen.name))
        .replace("@url@", url, 1)
        .replace("@body@", chosen.body(settings).rstrip("\n"), 1)
    )


def _purpose(name: str) -> str:
    if name == none.name:
        return "Tells Provisioner that this machine runs from its own disk."
    return f"Hands this machine to {name} and tells Provisioner how that went."


def _said(name: str) -> str:
    if name == none.name:
        return "the machine booted from its own disk; no configuration management is asked for (%s)"
    return f"the handoff to {name} ended with exit status %s"

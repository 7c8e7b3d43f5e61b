# Debian's package and CFEngine's own have each a directory of their own.
cfengine_dirs() {
    for cfengine_work in "$root/var/cfengine" "$root/var/lib/cfengine3"; do
        [ -d "$cfengine_work/ppkeys" ] && return 0
    done
    return 1
}
PATH=$PATH:/var/cfengine/bin
need cf-agent cfengine3 || return 127
if ! cfengine_dirs; then
    say "there is neither /var/cfengine/ppkeys nor /var/lib/cfengine3/ppkeys: is this CFEngine?"
    return 127
fi
cfengine_systemd=
if command -v systemctl >/dev/null 2>&1 && systemctl cat cfengine3.service >/dev/null 2>&1; then
    cfengine_systemd=yes
    systemctl stop cfengine3.service cf-execd.service cf-serverd.service cf-monitord.service 2>/dev/null
fi

# The keys of the image or of another round, whomever they trusted, and the policy that came from there.
cfengine_keys=$cfengine_work/ppkeys
rm -rf "$cfengine_keys" "$cfengine_work/inputs" "$cfengine_work/policy_server.dat"
mkdir -p "$cfengine_keys" "$cfengine_work/inputs" || return
sed -n '/BEGIN RSA PRIVATE KEY/,/END RSA PRIVATE KEY/p' "$secrets/cfengine-key" >"$cfengine_keys/localhost.priv" || return
sed -n '/BEGIN RSA PUBLIC KEY/,/END RSA PUBLIC KEY/p' "$secrets/cfengine-key" >"$cfengine_keys/localhost.pub" || return
printf '%s\n' @hub_key@ >"$cfengine_keys/hub.pub" || return
# How a key's file is called, root-MD5= or root-SHA=, is this agent's to say.
cfengine_digest=$(cf-key --print-digest "$cfengine_keys/hub.pub") || return
case $cfengine_digest in
    MD5=* | SHA=*) mv "$cfengine_keys/hub.pub" "$cfengine_keys/root-$cfengine_digest.pub" || return ;;
    *)
        say "cf-key cannot read the hub's key: $cfengine_digest"
        return 1
        ;;
esac

# Its exit status is worth little: it is the output that tells. Prints it, and keeps it for cfengine_failed.
cfengine_run() {
    limited @timeout@ cf-agent --color=never "$@" >"$dir/handoff.out" 2>&1
    cfengine_code=$?
    cat "$dir/handoff.out"
}
cfengine_failed() {
    [ "$cfengine_code" -ne 0 ] || grep -Eq '^ *(error|critical):' "$dir/handoff.out"
}

# Succeeds too where asking again is of no use: another key than the hub's will not become the hub's.
cfengine_bootstrap() {
    cfengine_run --trust-server=no --skip-bootstrap-policy-run --bootstrap @hub@
    [ "$cfengine_code" -eq 0 ] && [ -e "$cfengine_work/inputs/promises.cf" ] && return 0
    cfengine_code=1
    if grep -q 'TRUST FAILED' "$dir/handoff.out"; then
        cfengine_code=42
        return 0
    fi
    return 1
}

say "bootstrapping to the CFEngine hub "@hub@
patiently @timeout@ cfengine_bootstrap
rm -f "$dir/handoff.out"
if [ "$cfengine_code" -eq 42 ]; then
    say "what answers as the hub has another key than hub_key in the profile; nothing was taken from it"
fi
[ "$cfengine_code" -eq 0 ] || return "$cfengine_code"

# With a policy that cannot be read the agent would fall back to failsafe.cf, and end with 0.
cfengine_good() {
    cfengine_run -K -I -f "$cfengine_work/inputs/update.cf"
    limited @timeout@ cf-promises -c -f "$cfengine_work/inputs/promises.cf" || return
    cfengine_run -K -I -f "$cfengine_work/inputs/promises.cf"
    ! cfengine_failed
}
cfengine_count=0
until cfengine_good; do
    cfengine_count=$((cfengine_count + 1))
    if [ "$cfengine_count" -ge @runs@ ]; then
        say "the agent still reports errors in run $cfengine_count"
        rm -f "$dir/handoff.out"
        return 1
    fi
    say "the agent reports errors; running it once more"
done
rm -f "$dir/handoff.out"

if [ -n "$cfengine_systemd" ]; then
    # What the policy started belongs to this unit, and ends with it.
    for cfengine_each in cf-execd cf-serverd cf-monitord; do
        systemctl is-active --quiet "$cfengine_each.service" || pkill -x "$cfengine_each"
    done
    systemctl enable cfengine3.service || say "cfengine3.service cannot be enabled"
    systemctl restart cfengine3.service || say "cfengine3.service cannot be started"
fi
return 0

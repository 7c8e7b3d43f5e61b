PATH=$PATH:/opt/puppetlabs/bin
HOME=${HOME:-/root}
export PATH HOME
need puppet puppet-agent || {
    say "there is no puppet here and no package puppet-agent to be had; add its repository and package to the profile"
    return 127
}

# An agent that runs already would ask for a certificate without the challenge.
if [ -z "$root" ] && command -v systemctl >/dev/null 2>&1; then
    systemctl stop puppet.service >/dev/null 2>&1
fi

# Debian's puppet and the vendor's have other directories: the installed one knows.
puppet_paths=$(puppet config print confdir ssldir --section agent) || return
puppet_conf=$(echo "$puppet_paths" | sed -n 's/^confdir = //p')
puppet_ssl=$(echo "$puppet_paths" | sed -n 's/^ssldir = //p')
case $puppet_conf:$puppet_ssl in
    /?*:/?*) ;;
    *)
        say "puppet does not tell its directories: $puppet_paths"
        return 70
        ;;
esac
mkdir -p "$root$puppet_conf" || return

# Other settings stay; ours count wherever another section said otherwise.
puppet_set() {
    [ -e "$1" ] || : >"$1"
    awk -v ours=@conf@ '
        BEGIN { count = split(ours, lines, "|"); for (i = 1; i <= count; i++) { split(lines[i], pair, "="); mine[pair[1]] = 1 } }
        function add() { for (i = 1; i <= count; i++) { sub("=", " = ", lines[i]); print lines[i] }; done = 1 }
        /^[ \t]*\[/ { here = $0; gsub(/[][ \t\r]/, "", here) }
        here == "" || here == "main" || here == "agent" || here == "user" {
            name = $0; sub(/^[ \t]+/, "", name); sub(/[ \t]*=.*/, "", name)
            if ($0 ~ /=/ && name in mine) next
        }
        { print }
        here == "main" && !done { add() }
        END { if (!done) { print "[main]"; add() } }
    ' "$1" >"$1.new" && chmod 644 "$1.new" && mv "$1.new" "$1"
}
puppet_set "$root$puppet_conf/puppet.conf" || return

# The old identity goes, once a round: after a reboot in the middle the certificate may be there already.
puppet_round=$(sha256sum <"$secrets/puppet-challenge") || return
if [ "$puppet_round" != "$(cat "$dir/handoff.puppet" 2>/dev/null)" ]; then
    rm -rf "$root$puppet_ssl"
    echo "$puppet_round" >"$dir/handoff.puppet"
fi

# YAML of words that need no escapes.
puppet_csr=$root$puppet_conf/csr_attributes.yaml
trap 'rm -f "$puppet_csr"' EXIT
rm -f "$puppet_csr"
{
    echo "custom_attributes:"
    printf '  1.2.840.113549.1.9.7: "%s"\n' "$(cat "$secrets/puppet-challenge")"
    echo "extension_requests:"
    printf '%s\n' @extensions@
} >"$puppet_csr" || return
chmod 600 "$puppet_csr"

puppet_end=$(($(date +%s) + @timeout@))

# Seconds until the time is up.
puppet_left() {
    puppet_seconds=$((puppet_end - $(date +%s)))
    [ "$puppet_seconds" -gt 1 ] || puppet_seconds=1
    echo "$puppet_seconds"
}

puppet_certificate() {
    limited 600 puppet ssl bootstrap --waitforcert 0 --verbose --color false --logdest console
}

puppet_service() {
    say "the agent runs as a service from here on"
    if [ -z "$root" ] && command -v systemctl >/dev/null 2>&1; then
        systemctl enable --now puppet.service
    else
        puppet resource service puppet ensure=running enable=true --color false
    fi
}

say "asking "@ca@" for a certificate for "@certname@
patiently "$(puppet_left)" puppet_certificate || {
    say "no certificate: the server did not answer, or it did not sign; see the events of this build"
    return 69
}
rm -f "$puppet_csr"

# Succeeds once the server answered, whatever; the run's exit status is in puppet_code.
puppet_run() {
    rm -f "$dir/handoff.run"
    limited "$(puppet_left)" puppet agent --onetime --no-daemonize --no-splay --no-usecacheonfailure --waitforlock 120 \
        --waitforcert 0 --detailed-exitcodes --verbose --color false --logdest console --logdest "$dir/handoff.run"
    puppet_code=$?
    [ "$puppet_code" -eq 1 ] || return 0
    grep 'Error [0-9][0-9]* on SERVER' "$dir/handoff.run" 2>/dev/null | grep -qv 'Error 50[234] on SERVER'
}

patiently "$(puppet_left)" puppet_run
rm -f "$dir/handoff.run"
case $puppet_code in
    0 | 2) ;;
    1) say "puppet could not get or apply the catalog" ;;
    4) say "puppet applied the catalog; some resources failed" ;;
    6) say "puppet applied the catalog; some resources changed, some failed" ;;
    124) say "puppet did not end in time" ;;
esac
case $puppet_code in 0 | 2) ;; *) return "$puppet_code" ;; esac

@service@
return "$puppet_code"

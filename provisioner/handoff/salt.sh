# Config and keys before packages: a package that starts the minion starts it as this machine.
salt_etc=$root/etc/salt
salt_keys=$salt_etc/pki/minion
rm -rf "$salt_keys" "$salt_etc/minion_id"
mkdir -p "$salt_keys" "$salt_etc/minion.d" || return
chmod 755 "$salt_etc" "$salt_etc/minion.d"
sed -n '/BEGIN RSA PRIVATE KEY/,/END RSA PRIVATE KEY/p' "$secrets/salt-minion-key" >"$salt_keys/minion.pem" || return
sed -n '/BEGIN PUBLIC KEY/,/END PUBLIC KEY/p' "$secrets/salt-minion-key" >"$salt_keys/minion.pub" || return
chmod 400 "$salt_keys/minion.pem"
chmod 644 "$salt_keys/minion.pub"
printf '%s\n' @config@ >"$salt_etc/minion.d/provisioner.conf" || return
chmod 644 "$salt_etc/minion.d/provisioner.conf"

need salt-call salt-minion || return 127
salt_systemd=
if command -v systemctl >/dev/null 2>&1 && systemctl cat salt-minion.service >/dev/null 2>&1; then
    salt_systemd=yes
    systemctl stop salt-minion.service # not two at once
fi

# Says whether the master takes this minion's key. 42 is salt's exit status for a master that is not ours: that key must
# go again, or the right master is refused for not having it.
salt_asks() {
    limited 180 salt-call --config-dir="$salt_etc" --log-level=error --no-color --out=txt test.ping >/dev/null
    salt_code=$?
    [ "$salt_code" -eq 0 ] && return 0
    rm -f "$salt_keys/minion_master.pub"
    [ "$salt_code" -eq 42 ]
}

say "waiting for the Salt master "@master@
patiently @timeout@ salt_asks || return
if [ "$salt_code" -eq 42 ]; then
    say "this is not the master whose fingerprint is master_finger in the profile; nothing was taken from it"
    return 42
fi

say "applying "@what@
limited @timeout@ salt-call --config-dir="$salt_etc" --log-level=warning --no-color --retcode-passthrough \
    --state-output=changes state.apply @states@
salt_code=$?
[ "$salt_code" -eq 0 ] || return "$salt_code"

if [ -n "$salt_systemd" ]; then
    systemctl enable --now salt-minion.service || say "salt-minion.service cannot be enabled"
fi
return 0

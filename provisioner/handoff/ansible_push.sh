push_home=$(awk -F: -v user="$push_user" '$1 == user { print $6; exit }' "$root/etc/passwd")
if [ -z "$push_home" ]; then
    say "there is no account $push_user on this machine"
    return 1
fi
push_keys=$root$push_home/.ssh/authorized_keys

# Takes away the key of this round and of those before, and nothing else.
take_key_away() {
    [ -f "$push_keys" ] || return 0
    sed "/ $push_mark\$/d" "$push_keys" >"$push_keys.new" && cat "$push_keys.new" >"$push_keys"
    rm -f "$push_keys.new"
}

# sshd refuses the key after the time that the handoff may take, whatever becomes of this script.
let_key_in() {
    if [ ! -d "${push_keys%/*}" ]; then
        mkdir -p "${push_keys%/*}" && chmod 700 "${push_keys%/*}" || return 1
    fi
    take_key_away
    push_until=$(date -d "@$(($(date +%s) + push_seconds + 60))" +%Y%m%d%H%M%S) || return 1
    read -r push_type push_public push_rest <"$secrets/$push_key" || return 1
    [ ! -s "$push_keys" ] || [ -z "$(tail -c 1 "$push_keys")" ] || echo >>"$push_keys"
    echo "$push_options,expiry-time=\"$push_until\" $push_type $push_public $push_mark" >>"$push_keys"
    chmod 600 "$push_keys"
    if [ "$push_user" != root ]; then
        chown "$push_user:" "${push_keys%/*}" "$push_keys" || return 1
    fi
    if command -v restorecon >/dev/null 2>&1; then
        restorecon -R "${push_keys%/*}"
    fi
}

# Debian calls the service ssh, the others sshd; a socket may listen for it.
start_sshd() {
    if command -v systemctl >/dev/null 2>&1 && [ -d /run/systemd/system ]; then
        for push_unit in ssh.socket sshd.socket; do
            systemctl is-active --quiet "$push_unit" && return 0
        done
        for push_unit in sshd.service ssh.service; do
            systemctl enable --now "$push_unit" 2>/dev/null && return 0
        done
        say "neither sshd.service nor ssh.service can be started"
        return 1
    fi
    mkdir -p /run/sshd
    service ssh start 2>/dev/null || service sshd start 2>/dev/null || "$(command -v sshd)" -p "$push_port"
}

need sshd openssh-server || return 1
need python3 python3 || return 1
if [ -n "$root" ]; then ssh-keygen -A -f "$root" >/dev/null; else ssh-keygen -A >/dev/null; fi || return 1
if ! let_key_in || ! start_sshd; then
    take_key_away
    return 1
fi
say "waiting to be configured over SSH"
ready ''
push_code=$?
take_key_away
if [ "$push_code" -ne 0 ]; then
    say "Provisioner could not configure this machine; its build's log says why"
fi
return "$push_code"

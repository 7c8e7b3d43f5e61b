# The Cinc packages bring a chef-client too, which only calls cinc-client: so cinc-client is looked for first.
chef_program=
for chef_each in @programs@; do
    if command -v "$chef_each" >/dev/null 2>&1; then
        chef_program=$chef_each
        break
    fi
done
if [ -z "$chef_program" ]; then
    for chef_each in @programs@; do
        if need "$chef_each" "${chef_each%-client}"; then
            chef_program=$chef_each
            break
        fi
    done
fi
if [ -z "$chef_program" ]; then
    say "there is no @either@ here and no package to be had; install it with the profile's packages"
    return 127
fi
case $chef_program in
    cinc-client) chef_etc=$root/etc/cinc ;;
    *) chef_etc=$root/etc/chef ;;
esac

rm -f "$chef_etc/client.pem"
mkdir -p "$chef_etc/trusted_certs" || return
cp "$secrets/chef-client-key" "$chef_etc/client.pem" || return
chmod 600 "$chef_etc/client.pem"
chef_ca=$chef_etc/trusted_certs/provisioner.pem
rm -f "$chef_ca"
@certificate@
{
    printf '%s\n' @client_rb@
    printf "client_key '%s'\n" "$chef_etc/client.pem"
    printf "trusted_certs_dir '%s'\n" "$chef_etc/trusted_certs"
} >"$chef_etc/client.rb" || return
printf '%s\n' @first_boot@ >"$chef_etc/first-boot.json" || return

# Whether the server speaks at all; whatever it answers is an answer. chef-client does the rest of the asking.
chef_answers() {
    if command -v curl >/dev/null 2>&1; then
        if [ -e "$chef_ca" ]; then set -- --cacert "$chef_ca"; else set --; fi
        curl -sS --max-time 20 -o /dev/null "$@" @status_url@
    elif command -v wget >/dev/null 2>&1; then
        if [ -e "$chef_ca" ]; then set -- "--ca-certificate=$chef_ca"; else set --; fi
        wget -q -T 20 -t 1 -O /dev/null "$@" @status_url@
        case $? in 0 | 8) return 0 ;; *) return 1 ;; esac
    fi
}

# Without --no-fork some versions end with 1 where RFC 62 asks for 35.
chef_run() {
    limited @timeout@ "$chef_program" --once --no-fork --no-color -c "$chef_etc/client.rb" -j "$chef_etc/first-boot.json"
}

say "waiting for the Chef server at "@host@
patiently @patience@ chef_answers || say "the Chef server does not answer; trying $chef_program all the same"
chef_run
chef_code=$?
if [ "$chef_code" -eq 213 ]; then
    say "$chef_program has replaced itself; running it again"
    chef_run
    chef_code=$?
fi
case $chef_code in
    0) ;;
    35)
        # A recipe asked for it, perhaps in the middle of the run. This script has no result yet: it runs again after
        # the reboot. At the shutdown the shell that would write one must end first.
        say "$chef_program has scheduled a reboot; it runs again after that"
        trap 'sleep 3; exit 35' TERM
        sleep @timeout@
        say "the reboot did not come"
        ;;
    37) say "$chef_program wants a reboot before it can go on; reboot, then try the handoff again" ;;
    172) say "$chef_program wants its license accepted: set license: accept in the profile's handoff" ;;
esac
[ "$chef_code" -eq 0 ] || return "$chef_code"

for chef_unit in "$chef_program.timer" "$chef_program.service"; do
    for chef_each in etc usr/lib lib; do
        [ -e "$root/$chef_each/systemd/system/$chef_unit" ] || continue
        if [ -n "$root" ]; then
            systemctl --root="$root" enable "$chef_unit"
        else
            systemctl enable --now "$chef_unit"
        fi || say "$chef_unit cannot be enabled"
        return 0
    done
done
say "no $chef_program.timer: what runs $chef_program from here on is the policy's to say"
return 0

pull_work=$root/var/tmp/provisioner-ansible
pull_output=$pull_work/git.log

# git and ansible-pull see this configuration and these credentials, and nobody's else. Nothing secret is in the
# environment: it names files.
prepare_git() {
    rm -rf "$pull_work"
    mkdir -p "$pull_work/home" || return 1
    HOME=$pull_work/home
    GIT_CONFIG_NOSYSTEM=1
    GIT_TERMINAL_PROMPT=0
    GIT_ASKPASS=true
    ANSIBLE_CONFIG=$pull_work/ansible.cfg
    ANSIBLE_NOCOLOR=1
    LC_ALL=C.UTF-8
    PYTHONUNBUFFERED=1
    GIT_SSH_COMMAND="ssh -F none -o BatchMode=yes -o IdentityAgent=none -o IdentitiesOnly=yes -o ConnectTimeout=30"
    GIT_SSH_COMMAND="$GIT_SSH_COMMAND -o GlobalKnownHostsFile=/dev/null -o StrictHostKeyChecking=yes"
    if [ -n "$pull_known_hosts" ]; then
        GIT_SSH_COMMAND="$GIT_SSH_COMMAND -o UserKnownHostsFile='$secrets/$pull_known_hosts'"
    fi
    if [ -n "$pull_deploy_key" ]; then
        GIT_SSH_COMMAND="$GIT_SSH_COMMAND -i '$secrets/$pull_deploy_key'"
    fi
    export HOME GIT_CONFIG_NOSYSTEM GIT_TERMINAL_PROMPT GIT_ASKPASS GIT_SSH_COMMAND ANSIBLE_CONFIG ANSIBLE_NOCOLOR LC_ALL
    export PYTHONUNBUFFERED
    printf '[defaults]\ninterpreter_python = auto_silent\n' >"$ANSIBLE_CONFIG"
    {
        printf '[http]\n\tfollowRedirects = false\n'
        [ -z "$pull_ca" ] || printf '\tsslCAInfo = %s\n' "$secrets/$pull_ca"
        printf '[credential]\n\thelper =\n'
        [ -z "$pull_password" ] || printf '\thelper = store --file=%s\n' "$secrets/$pull_password"
        printf '[advice]\n\tdetachedHead = false\n[init]\n\tdefaultBranch = main\n'
    } >"$HOME/.gitconfig"
    printf '%s\n' "$pull_variables" >"$pull_work/variables.json"
    git init -q --bare "$pull_work/look"
}

# Fetches what the ref is at. A server that is not there may come; one that refuses us will not.
look() {
    pull_refused=
    git -C "$pull_work/look" fetch -q --depth 1 "$pull_url" "$pull_ref" >"$pull_output" 2>&1 && return 0
    # By its id a commit is only given out by servers that allow it: take all, and look for it.
    if [ "$pull_ref" = "$pull_commit" ]; then
        git -C "$pull_work/look" fetch -q "$pull_url" '+refs/*:refs/*' >"$pull_output" 2>&1 && return 0
    fi
    cat "$pull_output"
    if grep -qiE 'host key verification failed|permission denied|authentication failed|could not read username|couldn.t find remote ref|repository .* not found|does not appear to be a git|certificate' "$pull_output"; then
        pull_refused=1
        return 0
    fi
    say "$pull_url gives no answer"
    return 1
}

# The commit that is to run, in pull_commit.
decide() {
    if [ "$pull_ref" = "$pull_commit" ]; then
        pull_at=$pull_commit
    else
        pull_tag=$(git -C "$pull_work/look" rev-parse -q --verify FETCH_HEAD) || return 1
        pull_at=$(git -C "$pull_work/look" rev-parse -q --verify 'FETCH_HEAD^{commit}') || return 1
    fi
    if ! git -C "$pull_work/look" cat-file -e "$pull_at^{commit}" 2>/dev/null; then
        say "$pull_url has no commit $pull_at"
        return 1
    fi
    if [ -n "$pull_commit" ] && [ "$pull_at" != "$pull_commit" ]; then
        say "REFUSED: $pull_ref of $pull_url is at $pull_at, and must be at $pull_commit: it was moved"
        return 1
    fi
    if [ -n "$pull_signers" ] && ! is_signed "${pull_tag:-$pull_at}"; then
        say "REFUSED: $pull_ref of $pull_url, at $pull_at, has no good signature of a signer that the profile names"
        return 1
    fi
    pull_commit=$pull_at
}

# OBJECT: whether a signer signed this tag or commit. A tag that is signed counts for its commit.
is_signed() {
    pull_kind=$(git -C "$pull_work/look" cat-file -t "$1") || return 1
    if grep -q 'BEGIN PGP PUBLIC KEY BLOCK' "$secrets/$pull_signers"; then
        need gpg gnupg || return 1
        GNUPGHOME=$pull_work/gnupg
        export GNUPGHOME
        mkdir -m 700 "$GNUPGHOME" && gpg -q --batch --import "$secrets/$pull_signers" || return 1
    else
        git config --global gpg.format ssh
        git config --global gpg.ssh.allowedSignersFile "$secrets/$pull_signers"
        need ssh-keygen openssh-client || return 1
    fi
    git -C "$pull_work/look" "verify-$pull_kind" "$1"
}

run_playbook() {
    set -- --full -i localhost, -U "$pull_url" -C "$pull_commit" -d "$pull_work/tree" -e "@$pull_work/variables.json"
    [ -z "$pull_variables_file" ] || set -- "$@" -e "@$secrets/$pull_variables_file"
    if [ -n "$pull_vault_password" ]; then
        # As an option it would reach the playbook alone, and not the checkout, which reads the variables as well.
        ANSIBLE_VAULT_PASSWORD_FILE=$secrets/$pull_vault_password
        export ANSIBLE_VAULT_PASSWORD_FILE
    fi
    limited "$pull_seconds" ansible-pull "$@" "$pull_playbook"
}

need git git || return 1
need ansible-pull ansible-core || need ansible-pull ansible || return 1
case $pull_url in
    http*) ;;
    *) need ssh openssh-client || need ssh openssh-clients || return 1 ;;
esac
prepare_git || return 1
pull_code=1
if patiently "$pull_patience" look && [ -z "$pull_refused" ] && decide; then
    say "running $pull_playbook of $pull_url at $pull_commit"
    run_playbook
    pull_code=$?
fi
rm -rf "$pull_work"
return "$pull_code"

# Shared by the scripts: where we are, what Debian must give, the virtual environment.
# shellcheck shell=bash
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
venv=${PROVISIONER_VENV:-$root/.venv}

say() { printf '\033[1m==> %s\033[0m\n' "$*" >&2; }
die() { printf 'error: %s\n' "$*" >&2; exit 1; }

# first TEST A|B...: the first of these packages that passes; fails if none does.
first() {
    local package
    for package in ${2//|/ }; do "$1" "$package" && echo "$package" && return; done
    return 1
}
is_installed() { dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null | grep -qx installed; }
is_known() { apt-cache show "$1" >/dev/null 2>&1; }

# need PACKAGE...: install what Debian has not installed yet; without root, say what is missing and go on. A|B is
# whichever of them this Debian has.
need() {
    local package missing=() names=()
    for package in "$@"; do
        first is_installed "$package" >/dev/null || missing+=("$package")
    done
    ((${#missing[@]})) || return 0
    ((EUID != 0)) || apt-get update -qq || die "apt-get update failed: see its message above"
    for package in "${missing[@]}"; do
        names+=("$(first is_known "$package" || echo "${package%%|*}")")
    done
    if ((EUID != 0)); then
        say "not installed (as root: apt install ${names[*]})"
        return 0
    fi
    say "installing ${names[*]}"
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${names[@]}" >/dev/null \
        || die "apt could not install ${names[*]}: see its message above"
}

# environment LOCK: the virtual environment with exactly what the lock says, made again only when that changed.
environment() {
    local lock=$root/scripts/$1 stamp
    stamp=$(sha256sum "$lock" "$root/pyproject.toml" | sha256sum | cut -c1-64)
    [[ -f $venv/.installed-$1 && $(<"$venv/.installed-$1") == "$stamp" ]] && return 0
    python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' || die "Python 3.11 or newer is needed: $(python3 -V)"
    [[ -x $venv/bin/python ]] || python3 -m venv "$venv" || die "python3 -m venv failed: apt install python3-venv"
    say "installing the locked dependencies into $venv"
    "$venv/bin/python" -m pip install -q --disable-pip-version-check --require-hashes -r "$lock" \
        || die "pip could not install what $lock names: see its message above. It needs a package index, or all wheels in" \
            "a directory: PIP_NO_INDEX=1 PIP_FIND_LINKS=DIR; then run this again"
    "$venv/bin/python" -m pip install -q --disable-pip-version-check --no-deps -e "$root" \
        || die "pip could not install this checkout: see its message above"
    echo "$stamp" >"$venv/.installed-$1"
}

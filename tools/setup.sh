# Set-up that tools/test and tools/try share; sourced by them, bash. Each step does nothing when it is already done.
# shellcheck shell=bash

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
APT_UPDATED=""
export PIP_DISABLE_PIP_VERSION_CHECK=1
export LC_ALL=C.UTF-8 # programs' messages as tests and demonstrations expect them

note() { printf '%s\n' "$*" >&2; }
fail() { note "$0: $*"; exit 1; }

# apt_get PACKAGE...: install them one by one, as root only; one that is not to be had is the caller's to notice.
apt_get() {
    [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null || { note "missing, please install: $*"; return 0; }
    local package
    export DEBIAN_FRONTEND=noninteractive
    [ -n "$APT_UPDATED" ] || { note "installing: $*"; apt-get -qq update >&2 || true; APT_UPDATED=1; }
    for package; do
        apt-get -qq -y install --no-install-recommends "$package" </dev/null >/dev/null 2>&1 ||
            note "apt-get could not install $package"
    done
}

# need COMMAND PACKAGE [COMMAND PACKAGE]...: install the packages whose commands are missing.
need() {
    local missing=()
    while [ $# -gt 0 ]; do
        PATH=$PATH:/usr/sbin:/sbin command -v "$1" >/dev/null || missing+=("$2")
        shift 2
    done
    [ ${#missing[@]} = 0 ] || apt_get "${missing[@]}"
}

# Sets PYTHON: the first Python from 3.11 on that can make virtual environments.
find_python() {
    local candidate
    for candidate in "${USTACK_PYTHON:-python3}" python3.11 python3.12 python3.13 python3.14 /usr/bin/python3; do
        if "$candidate" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            PYTHON=$candidate
            return 0
        fi
    done
    return 1
}

python_or_install() {
    find_python || { apt_get python3 python3-venv python3-dev; find_python; } ||
        { apt_get python3.11 python3.11-venv python3.11-dev; find_python; } ||
        fail "Python 3.11 or newer, with venv, is needed"
}

# A C compiler with Python's headers: python-pytun and the compiled core need it.
c_compiler() {
    need cc gcc
    local include
    include=$("$PYTHON" -c 'import sysconfig; print(sysconfig.get_path("include"))')
    [ -e "$include/Python.h" ] || apt_get python3-dev libc6-dev "$(basename "$include")-dev"
    [ -e /usr/include/stdlib.h ] || apt_get libc6-dev
}

# Sets VENV: .venv here, or in the user's cache where the tree is not theirs to write to.
choose_venv() {
    VENV=${USTACK_VENV:-$ROOT/.venv}
    if [ -z "${USTACK_VENV:-}" ] && ! [ -w "$ROOT" ]; then
        VENV=${XDG_CACHE_HOME:-${HOME:-/nonexistent}/.cache}/ustack/venv
        mkdir -p "$VENV" 2>/dev/null || VENV=$SCRATCH/venv
    fi
}

# The fingerprint of FILE...: environments are made anew when it changes.
fingerprint() { { "$PYTHON" -VV; cat "$@"; } | sha256sum | cut -d' ' -f1; }

sources_fingerprint() {
    # shellcheck disable=SC2046
    fingerprint "$ROOT/pyproject.toml" "$ROOT/tools/build_hook.py" $(find "$ROOT/ustack" -name '*.py' | LC_ALL=C sort)
}

is_current() { [ -x "$1/bin/python" ] && [ "$(cat "$1/.fingerprint" 2>/dev/null)" = "$2" ]; }

# The developer's environment in VENV: ustack from the tree, interpreted, with every tool.
developer_environment() {
    local print
    print=$(fingerprint "$ROOT/pyproject.toml")
    is_current "$VENV" "$print" && return 0
    note "preparing $VENV"
    [ -x "$VENV/bin/python" ] || "$PYTHON" -m venv "$VENV"
    "$VENV/bin/python" -m pip install -qq --upgrade 'pip>=23.1'
    "$VENV/bin/python" -m pip install -qq -e "$ROOT[dev]"
    echo "$print" >"$VENV/.fingerprint"
}

# user_environment EXTRAS: what users get, the wheel installed, in VENV/compiled; built from a copy of the tree.
user_environment() {
    local print env=$VENV/compiled extras=$1
    print="$(sources_fingerprint) ${USTACK_COMPILE:-$(command -v cc >/dev/null && echo 1)}"
    if is_current "$env" "$print"; then
        [ -z "$extras" ] || [ -e "$env/.extras$extras" ] || install_wheel "$env" "$extras"
        return 0
    fi
    note "building the wheel"
    rm -rf "$env/.fingerprint" "$env"/.extras* "$env/dist"
    [ -x "$env/bin/python" ] || "$PYTHON" -m venv "$env"
    "$env/bin/python" -m pip install -qq --upgrade 'pip>=23.1'
    mkdir "$SCRATCH/wheel"
    cp -r "$ROOT"/{pyproject.toml,README.md,LICENSE,tools,ustack} "$SCRATCH/wheel"
    "$env/bin/python" -m pip wheel -qq --no-deps -w "$env/dist" "$SCRATCH/wheel"
    "$env/bin/python" -m pip uninstall -qq -y ustack 2>/dev/null || true
    install_wheel "$env" "$extras"
    echo "$print" >"$env/.fingerprint"
}

install_wheel() {
    "$1/bin/python" -m pip install -qq "$(echo "$1"/dist/ustack-*.whl)$2"
    touch "$1/.extras$2"
}

SCRATCH=$(mktemp -d)
trap 'rm -rf "$SCRATCH"' EXIT

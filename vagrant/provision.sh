#!/usr/bin/env bash
# Makes a Debian 12 ready for ustack's tests: programs, a kernel that the routing judge can ask, modules, Python's
# packages. Run as root; running it again does nothing.
#
# `vagrant up` runs it in the machine. make-box runs it in a chroot (USTACK_CHROOT=1: what needs a booted kernel is left
# out) and leaves Python's packages in USTACK_WHEELS, since there need be no network. What is installed comes from
# wherever apt and pip are set up to find it. With --requirements it only prints which packages of Python those are.
set -euo pipefail

SOURCE=${USTACK_SOURCE:-/ustack}
ENVIRONMENT=/opt/ustack
BOOTED=${USTACK_CHROOT:+no}
STAMP=$ENVIRONMENT/.provisioned
PACKAGES=(
    arping curl ethtool gcc iproute2 iputils-ping kmod libc6-dev netcat-openbsd nmap procps python3 python3-dev
    python3-venv rsync socat sudo tcpdump
)
# fib_multipath_hash_seed: what the judge needs so that both sides choose the same hop
OLDEST_KERNEL=6.11
MODULES="tun bridge veth e1000 sch_netem"

note() { printf 'provision: %s\n' "$*"; }

apt_install() { DEBIAN_FRONTEND=noninteractive apt-get -qq -y install --no-install-recommends "$@" </dev/null >/dev/null; }

packages() {
    local package missing=()
    for package in "${PACKAGES[@]}"; do
        dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$package")
    done
    [ ${#missing[@]} -gt 0 ] || return 0
    note "installing ${missing[*]}"
    apt-get -qq update
    apt_install "${missing[@]}"
}

older() { [ "$(printf '%s\n' "$1" "$2" | sort -V | head -n 1)" != "$2" ]; }

# Debian 12's kernel is older: a newer one from its backports, which the machine must then be started with.
kernel() {
    local newest mirror
    newest=$(find /boot -name 'vmlinuz-*' -printf '%f\n' | sort -V | tail -n 1)
    older "${newest#vmlinuz-}" "$OLDEST_KERNEL" || return 0
    # shellcheck disable=SC2016 # apt's own variables
    mirror=$(apt-get indextargets --format '$(REPO_URI) $(RELEASE) $(COMPONENT)' 'Created-By: Packages' |
        awk '$2 == "bookworm" && $3 == "main" { print $1; exit }')
    [ -n "$mirror" ] || { note "no mirror of Debian 12 is set up, so the kernel stays as it is"; return 0; }
    note "installing a kernel from backports"
    echo "deb $mirror bookworm-backports main" >/etc/apt/sources.list.d/ustack-backports.list
    apt-get -qq update
    apt_install linux-image-amd64/bookworm-backports
    note "start the machine anew to use it"
}

modules() {
    mkdir -p /etc/modules-load.d /etc/profile.d
    tr ' ' '\n' <<<"$MODULES" >/etc/modules-load.d/ustack.conf
    [ "$BOOTED" = no ] && return 0
    local module
    for module in $MODULES; do
        modprobe "$module" || note "the running kernel has no $module"
    done
}

# The two e1000 on one wire: they have no address, as the one that leads to the world has.
wire() {
    local card found=()
    for card in /sys/class/net/*; do
        [ "$(basename "$(readlink -f "$card/device/driver" || true)")" = e1000 ] || continue
        [ -n "$(ip -4 -o address show dev "${card##*/}")" ] || found+=("${card##*/}")
    done
    echo "${found[*]:0:2}"
}

# What shells that people and tests log in with know.
profile() {
    local cards="eth1 eth2"
    [ "$BOOTED" = no ] || cards=$(wire)
    cat >/etc/profile.d/ustack.sh <<PROFILE
export USTACK_AS_ROOT=1 # tools/test: with the tests on TAP devices
export USTACK_WIRE='$cards'
PROFILE
}

requirements() {
    "${USTACK_PYTHON:-python3}" - "$SOURCE/pyproject.toml" <<'PYTHON'
import sys, tomllib
with open(sys.argv[1], "rb") as file:
    project = tomllib.load(file)["project"]
print(*project["dependencies"], *project["optional-dependencies"]["test"], sep="\n")
PYTHON
}

# Python's packages in an environment of their own; ustack itself is the tree.
python_environment() {
    local print from=()
    print=$(requirements | sha256sum)
    [ "$(cat "$STAMP" 2>/dev/null)" != "$print" ] || { note "Python's packages are there"; return 0; }
    [ -z "${USTACK_WHEELS:-}" ] || from=(--no-index --find-links "$USTACK_WHEELS")
    [ -x $ENVIRONMENT/bin/python ] || python3 -m venv $ENVIRONMENT
    requirements >$ENVIRONMENT/requirements.txt
    note "installing Python's packages"
    $ENVIRONMENT/bin/pip install -qq --disable-pip-version-check "${from[@]}" -r $ENVIRONMENT/requirements.txt
    echo "$SOURCE" >"$($ENVIRONMENT/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/ustack.pth"
    printf '#!/bin/sh\nexec %s/bin/python -m ustack "$@"\n' $ENVIRONMENT >/usr/local/bin/ustack
    chmod 755 /usr/local/bin/ustack
    echo "$print" >$STAMP
}

case "${1:-}" in
    "") ;;
    --requirements) requirements; exit ;;
    *) sed -n '2,/^set/{/^#/p}' "$0" | cut -c3- >&2; exit 2 ;;
esac
[ "$(id -u)" = 0 ] || { note "must be run as root" >&2; exit 1; }
packages
kernel
modules
profile
python_environment
note "done"

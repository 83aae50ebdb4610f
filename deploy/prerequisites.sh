# What the build and the tests need beside Rust and a C compiler. Sourced, from the root of the tree.
# shellcheck shell=bash

# What starts by itself when the machine does.
starting() {
    { find /etc/systemd/system/*.wants /etc/rc[2-5].d -type l \( -path '*.wants/*' -o -name 'S*' \) 2>/dev/null || true; } | sort
}

# install_debian PACKAGE...
# Fails where that cannot be done: without root, or on another system. Nothing that it installs starts by
# itself, now or when the machine does. A subshell, so that its trap is its own.
install_debian() (
    if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then exit 1; fi
    before=$(starting)
    policy=/usr/sbin/policy-rc.d
    if [ ! -e "$policy" ]; then
        trap 'rm -f "$policy"' EXIT
        printf '#!/bin/sh\nexit 101\n' >"$policy" && chmod +x "$policy"
    fi
    export DEBIAN_FRONTEND=noninteractive
    apt-get -q update &&
        apt-get -q -o DPkg::Lock::Timeout=300 install --yes --no-install-recommends "$@" || exit
    comm -13 <(printf '%s\n' "$before") <(starting) | while read -r link; do
        case $link in
            # A name with K is what `update-rc.d disable` leaves, so that an upgrade does not enable it again.
            */S*) mv "$link" "${link%/*}/K01${link##*/S[0-9][0-9]}" ;;
            *) rm "$link" ;;
        esac
    done
)

# python_environment FOLDER REQUIREMENTS
# A virtual environment that holds what the requirements file lists; made anew when the list changes.
python_environment() {
    local folder=$1 requirements=$2 giver=$1/bin/python pip
    if cmp -s "$requirements" "$folder/requirements.txt"; then return; fi
    rm -rf "$folder"
    if python3 -c 'import ensurepip, venv' 2>/dev/null; then
        python3 -m venv "$folder"
    elif python3 -c 'import pip, venv' 2>/dev/null; then
        # Debian splits ensurepip off: the environment borrows the pip outside it.
        python3 -m venv --without-pip "$folder"
        giver=python3
    else
        echo "There is no python3 that can install from PyPI. Install what Debian packages as python3-venv and try again." >&2
        return 1
    fi
    pip=$("$giver" -c 'import pip; print(pip.__path__[0])')
    "$folder/bin/python" "$pip" install --quiet --requirement "$requirements"
    cp "$requirements" "$folder/requirements.txt"
}

# zlib-ng, which Pingora compresses with, is built by cmake and make.
ensure_cmake() {
    if command -v "${CMAKE:-cmake}" >/dev/null && command -v make >/dev/null; then return; fi
    if install_debian cmake make; then return; fi
    echo "cmake and make are not both here and cannot be installed: using cmake and ninja from PyPI." >&2
    echo "(Where that fails, install what Debian packages as cmake and make.)" >&2
    python_environment target/build-tools deploy/build-tools.txt
    PATH=$(target/build-tools/bin/python -c \
        'import cmake, ninja; print(cmake.CMAKE_BIN_DIR, ninja.BIN_DIR, sep=":")'):$PATH
    export PATH CMAKE_GENERATOR=Ninja
}

# The oldest Rust that Cargo.toml takes, told here where an older cargo would only show a puzzle.
ensure_rust() {
    local needed found
    needed=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)
    found=$({ rustc --version 2>/dev/null || true; } | cut -d ' ' -f 2)
    if [ -n "$found" ] && printf '%s\n' "$needed" "$found" | sort -CV; then return; fi
    echo "Rust $needed or newer is needed, and here is ${found:-none}. Install it from https://rustup.rs and try again." >&2
    return 1
}

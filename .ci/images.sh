# Sourced by .ci/run: the images that tests and docker-compose.yml use, pulled where that is possible, else built here.

build_images() {  # build_images FOLDER: sets KAFKA_IMAGE, REDIS_IMAGE, PYTHON_IMAGE, APP_IMAGE
    export APP_IMAGE=kafka-once-example PYTHON_IMAGE=python:3.11-slim PIP_OPTIONS=""
    export DOCKER_BUILDKIT=0  # the classic builder takes a base image that is in no registry
    if timeout 60 docker pull --quiet "$PYTHON_IMAGE" > /dev/null 2>&1; then
        echo "images can be pulled: the official ones are used"
    else
        echo "no image can be pulled: stand-ins are built"
        build_stand_ins "$1"
    fi
    docker build --quiet --tag "$APP_IMAGE" --build-arg "BASE_IMAGE=$PYTHON_IMAGE" --build-arg "PIP_OPTIONS=$PIP_OPTIONS" .
}

build_stand_ins() {
    local folder=$1 base=local/base:bookworm jars version
    jars=$(.venv/bin/python -m kafka_once.testing.services.kafka_jars)
    version=$(.venv/bin/python -c 'from kafka_once.testing.services.broker_properties import kafka_version; print(kafka_version())')
    export KAFKA_IMAGE="local/kafka:$version" REDIS_IMAGE=local/redis:bookworm PYTHON_IMAGE=$base
    export TESTCONTAINERS_RYUK_DISABLED=true  # its image cannot be pulled either; the engine ends with this run

    debootstrap --variant=minbase --include=openjdk-17-jre-headless,redis-server,python3,python3-venv bookworm \
        "$folder/rootfs" > "$folder/debootstrap.log" 2>&1 || { tail -n 20 "$folder/debootstrap.log" >&2; return 1; }
    rm -rf "$folder/rootfs/var/cache/apt/archives" "$folder/rootfs/var/lib/apt/lists"
    tar -C "$folder/rootfs" -c . | docker import - "$base"
    rm -rf "$folder/rootfs"

    cp -r .ci/images/kafka "$folder/kafka"
    cp -r "$jars" "$folder/kafka/jars"
    docker build --quiet --tag "$KAFKA_IMAGE" --build-arg "BASE_IMAGE=$base" "$folder/kafka"
    docker build --quiet --tag "$REDIS_IMAGE" --build-arg "BASE_IMAGE=$base" .ci/images/redis

    # The build has no network either: pip's packages come along as wheels, for the base's Python 3.11.2. redis-py needs
    # async-timeout there, and pip judges such conditions by the Python it runs on, not by the one it fetches for.
    .venv/bin/python -m pip download --quiet --only-binary=:all: --python-version 3.11 --dest wheels hatchling async-timeout .
    PIP_OPTIONS="--no-index --find-links /wheels"
}

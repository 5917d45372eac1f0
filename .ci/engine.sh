# Sourced by .ci/run: a Docker engine of our own, with its own folder and socket, ended by its own process id.

engine_pid=""

start_engine() {  # start_engine FOLDER: sets DOCKER_HOST; where an engine answers already, that one is used
    if docker info > /dev/null 2>&1; then
        echo "a Docker engine answers already"
        return
    fi
    local folder=$1
    export DOCKER_HOST="unix://$folder/docker.sock"
    dockerd --data-root "$folder/data" --exec-root "$folder/exec" --pidfile "$folder/dockerd.pid" \
        --host "$DOCKER_HOST" > "$folder/dockerd.log" 2>&1 < /dev/null &
    engine_pid=$!
    local waited
    for ((waited = 0; waited < 120; waited++)); do
        if docker info > /dev/null 2>&1; then return; fi
        if ! kill -0 "$engine_pid" 2> /dev/null; then break; fi
        sleep 0.5
    done
    echo "the Docker engine does not start; its log ends with:" >&2
    tail -n 20 "$folder/dockerd.log" >&2
    return 1
}

stop_engine() {  # stop_engine: ends what start_engine started, and nothing else
    if [ -z "$engine_pid" ]; then return 0; fi
    docker ps --quiet | xargs --no-run-if-empty docker kill > /dev/null 2>&1 || true
    kill "$engine_pid" 2> /dev/null || true
    wait "$engine_pid" 2> /dev/null || true
    engine_pid=""
}

# An agent and the development backend of a run. Sourced after engine.sh. Needs HELIOS_TEST_ENGINE.
# Both work in $RUN only; what the agent makes on the engine carries the run's ids in its names.

random_id() { od -An -N16 -tx1 /dev/urandom | tr -d ' \n'; }
target_dir() { cargo metadata --no-deps --offline --format-version 1 | jq -r .target_directory; }

# backend_up BINARY: BACKEND is its host and port.
backend_up() {
  BACKEND=127.0.0.1:$(free_port)
  daemon backend "$1" --listen "$BACKEND"
  wait_for 10 control GET requests || { tail -n 20 "$RUN/backend.log" >&2; die "the backend did not start"; }
}
backend_down() { daemon_stop backend 5; }
# control METHOD WHAT [curl options]: the backend's control routes.
control() { curl -sS --fail-with-body --noproxy '*' -m 10 -X "$1" "http://$BACKEND/_control/$2" "${@:3}"; }
reported() { [ "$(control GET reports | jq length)" -gt "${1:-0}" ]; }

# agent_up BINARY UUID: a managed agent with everything below $RUN/agent; waits until its API answers. AGENT_ENDPOINT, if
# set, is where it is told that the backend is, and AGENT_ADDRESS how it is told where its API is.
agent_up() {
  local dir=$RUN/agent
  mkdir -p "$dir"/{config,state,cache,run}
  daemon agent env HOME="$dir" DOCKER_HOST="$HELIOS_TEST_ENGINE" RUST_LOG="${RUST_LOG:-info}" \
    XDG_CONFIG_HOME="$dir/config" XDG_STATE_HOME="$dir/state" XDG_CACHE_HOME="$dir/cache" XDG_RUNTIME_DIR="$dir/run" \
    "$1" --uuid "$2" --remote-api-endpoint "${AGENT_ENDPOINT:-http://$BACKEND}" --remote-api-key "key-$2" \
    --local-api-address "${AGENT_ADDRESS:-unix:$RUN/api.sock}" ${AGENT_OPTIONS:-}
  AGENT=$(cut -d' ' -f1 "$RUN/agent.pid")
  wait_for 10 api GET /ping || { tail -n 20 "$RUN/agent.log" >&2; die "the agent did not start"; }
}
# agent_down: also forgets what it stored.
agent_down() { daemon_stop agent 10; rm -rf "$RUN/agent" "$RUN/api.sock"; }
# api METHOD PATH [curl options]: the agent's local API.
api() { curl -sS --fail-with-body --noproxy '*' -m 10 -X "$1" --unix-socket "$RUN/api.sock" "http://helios$2" "${@:3}"; }
status() { api GET /v3/status | jq -r .status; }
is_done() { [ "$(status)" = "done" ]; }

# memory PID: resident, private and highest resident KiB, threads.
memory() {
  awk '/^Rss:/ { r = $2 } /^Private_/ { p += $2 } /^VmHWM:/ { h = $2 } /^Threads:/ { t = $2 } END { print r, p, h, t }' \
    "/proc/$1/smaps_rollup" "/proc/$1/status"
}

# app_drop ID...: takes containers, networks and volumes whose names carry one of these ids off the engine.
app_drop() {
  local filter ref
  filter=$(jq -rn --args '{name: $ARGS.positional} | tojson | @uri' "$@")
  engine GET "/containers/json?all=1&filters=$filter" | jq -r '.[].Id' | engine_delete '/containers/%?force=1&v=1'
  engine GET "/networks?filters=$filter" | jq -r '.[].Id' | engine_delete '/networks/%'
  engine GET "/volumes?filters=$filter" | jq -r '.Volumes[]?.Name' | engine_delete '/volumes/%?force=1'
}
# engine_delete PATH: for every name on stdin, four at a time.
engine_delete() {
  export -f engine_delete_one engine engine_at
  xargs -r -P4 -I% bash -c 'engine_delete_one "$1"' delete "$1"
}
engine_delete_one() { engine DELETE "$1" -m 60 >/dev/null 2>&1 || true; }

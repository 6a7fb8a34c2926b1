# scripts/demo legacy: a takeover before your eyes, on a real engine, with a stand-in for the legacy supervisor: before,
# during, a release through both, and the way back, killed once in its middle. Sourced by scripts/demo, whose functions
# it uses; run by legacy_demo.

STANDIN=balena_supervisor

legacy_target() { # RELEASE
  jq -n --arg device "$DEVICE" --arg app "$APP" --arg release "$1" --arg image "$WEB" '
    {($device): {name: "demo-device", config: {}, apps: {($app): {
      id: 1, name: "demo", is_host: false, class: "fleet", releases: {($release): {id: 1, networks: {}, volumes: {},
        services: {web: {id: 1, image_id: 1, image: $image, composition: {}}}}}}}}}' | set_target
}

# standin WHAT: what the stand-in remembers since it started.
standin() { curl -sS --fail-with-body --noproxy '*' -m 10 "http://127.0.0.1:$CONTROL/$1" "${@:2}"; }
standin_release() {
  standin target | jq -r --arg d "$DEVICE" --arg a "$APP" '(. // "{}" | fromjson)[$d].apps[$a].releases // {} | keys[0] // "none" | .[:7]'
}
standin_has() { [ "$(standin_release)" = "${1:0:7}" ]; }
# It has no engine; it says that it runs what it was told, as the real one does when it has done so.
standin_runs() { # RELEASE
  jq -n --arg app "$APP" --arg release "$1" --arg image "$WEB" '{($app): {release_uuid: $release, releases: {($release):
    {services: {web: {image: $image, status: "Running"}}}}}}' | standin apps -X PUT -d @- >/dev/null
}
standin_rows() {
  legacy_node "new (require('sqlite3').Database)('/data/database.sqlite').all('SELECT key, value FROM config', (error, rows) =>
    console.log(rows.map(({key, value}) => key + '=' + value).join(', ') || 'no overrides'))"
}
started() { engine GET "/containers/$STANDIN/json" | jq -r .State.StartedAt; }
answers_at() { curl -sf --noproxy '*' -m 2 -o /dev/null "http://127.0.0.1:$1/ping"; }
# through_agent PATH: what the answer's status is, on the port that everybody knows.
status_of() { curl -s --noproxy '*' -m 5 -o /dev/null -w '%{http_code}' "http://127.0.0.1:$OPEN$1"; }
legacy_reported() { [ "$(legacy_report)" = "${1:0:7}" ]; }
legacy_report() {
  control GET reports | jq -r --arg d "$DEVICE" --arg a "$APP" '[.[][$d].apps[$a].release_uuid // empty] | last // "none" | .[:7]'
}
app_container() { engine GET "/containers/web_$APP/json" | jq -r '"\(.Id[:12]), up since \(.State.StartedAt[:19])"'; }

# service WORD...: runs the program as in the agent's container, with what a legacy supervisor gives to its services.
service_environment() {
  local dir=$RUN/agent
  mkdir -p "$dir"/{config,state,cache,run}
  SERVICE=(env -i "PATH=$PATH" "HOME=$dir" "RUST_LOG=warn,helios=info" "DOCKER_HOST=$HELIOS_TEST_ENGINE"
    "XDG_CONFIG_HOME=$dir/config" "XDG_STATE_HOME=$dir/state" "XDG_CACHE_HOME=$dir/cache" "XDG_RUNTIME_DIR=$dir/run"
    "BALENA_DEVICE_UUID=$DEVICE" "BALENA_API_URL=http://$BACKEND" "BALENA_API_KEY=key-$DEVICE"
    "BALENA_SUPERVISOR_API_KEY=$KEY" BALENA_SUPERVISOR_HOST=127.0.0.1 "BALENA_SUPERVISOR_PORT=$OPEN"
    HELIOS_LEGACY_HOST=127.0.0.1 "HELIOS_LEGACY_PORT=$MOVED"
    "HELIOS_LOCAL_API_ADDRESS=unix:$RUN/api.sock,tcp:127.0.0.1:$OPEN" "HELIOS_REMOTE_POLL_INTERVAL_MS=900000")
}
indented() { sed -uE "$SHORT; s/^/           $1: /"; }
restore() { "${SERVICE[@]}" "$RUN/helios-legacy-takeover" --restore --restart container 2>&1; }

legacy_clean_up() {
  chapter "Clean-up"
  [ -z "${TAIL:-}" ] || kill "$TAIL" 2>/dev/null
  agent_down
  legacy_down
  backend_down
  [ ! -f "$RUN/engine.url" ] || app_drop "$APP"
  say "clean-up" "agent, stand-in, backend, app and images; registry and private engine follow"
}

legacy_demo() {
  local begun
  begun=$(now)
  chapter "Set-up"
  need cc:gcc cc:libc6-dev
  run_start
  on_exit legacy_clean_up
  engine_up
  ! engine GET "/containers/$STANDIN/json" >/dev/null 2>&1 || die "this engine has a container $STANDIN already"
  registry_up
  legacy_image_up
  chapter "Build"
  build_up --example legacy
  ln -s "$(readlink -f "$helios")" "$RUN/helios"
  ln -s helios "$RUN/helios-legacy-takeover"
  image_make helios-demo/web:1 $'CMD ["sleep", "infinity"]\nSTOPSIGNAL SIGKILL'
  WEB=$HELIOS_TEST_REGISTRY/helios-demo/web@$(image_push helios-demo/web:1)
  OPEN=$(free_port) MOVED=$(free_port) CONTROL=$(free_port)
  backend_up "$bin/examples/backend"
  say "backend" "at $BACKEND"
  legacy_before
  service_environment
  legacy_taken_over
  legacy_update
  legacy_restored
  chapter "Summary"
  say "total" "$(since "$begun") s"
}

legacy_before() {
  chapter "Before: a device with a legacy supervisor"
  legacy_target "$RELEASE_1"
  legacy_up "$bin/examples/legacy" "$STANDIN" "$CONTROL" "$(jq -n --arg backend "http://$BACKEND" --arg uuid "$DEVICE" \
    --argjson port "$OPEN" '{apiEndpoint: $backend, uuid: $uuid, deviceApiKey: ("key-" + $uuid),
      listenPort: $port, appUpdatePollInterval: 5000, reportInterval: 500, backoff: 500}')"
  # What it runs: a container with its label, which nobody may touch.
  jq -n --arg image "$HELIOS_TEST_REGISTRY/helios-demo/web:1" --arg app "$APP" '{Image: $image,
    Labels: {"io.balena.supervised": "", "io.balena.app-uuid": $app, "io.balena.service-name": "web"}}' |
    engine POST "/containers/create?name=web_$APP" -H 'Content-Type: application/json' -d @- >/dev/null
  engine POST "/containers/web_$APP/start"
  wait_for 20 standin_has "$RELEASE_1" || die "the stand-in does not get its target"
  standin_runs "$RELEASE_1"
  wait_for 20 legacy_reported "$RELEASE_1" || die "the stand-in does not report"
  say "stand-in" "container $STANDIN listens on $OPEN, polls and reports to the backend itself: release $(legacy_report)"
  say "settings" "$(standin_rows)"
  # It drew that itself, and gives it to the services that may ask it.
  KEY=$(legacy_node "new (require('sqlite3').Database)('/data/database.sqlite').get(
    'SELECT key FROM apiSecret WHERE appId = 0 AND serviceName IS NULL', (error, row) => console.log(row.key))")
  app=$(app_container)
  say "app" "container $app"
}

legacy_taken_over() {
  local before
  chapter "The agent starts as a service of the device, and takes over"
  before=$(started)
  daemon agent "${SERVICE[@]}" "$RUN/helios" start
  tail -n +1 -F "$RUN/agent.log" 2>/dev/null > >(indented agent) &
  TAIL=$!
  wait_for 60 api GET /ping || { tail -n 20 "$RUN/agent.log" >&2; die "the agent did not start"; }
  wait_for 60 standin_has "$RELEASE_1" || die "the stand-in gets no target through the agent"
  wait_for 60 is_done || die "the agent does not settle: $(api GET '/v3/status?detail=true')"
  [ "$(started)" != "$before" ] || die "the stand-in was not restarted"
  answers_at "$MOVED" || die "the stand-in does not answer at its new port"
  say "settings" "$(standin_rows)"
  say "ports" "$OPEN is the agent's now, the stand-in answers at $MOVED"
  say "passed on" "GET /v2/version at $OPEN: $(status_of /v2/version), and with the supervisor's key $(status_of "/v2/version?apikey=$KEY")"
  say "health" "$("${SERVICE[@]}" "$RUN/helios" healthcheck)"
  kept "app   " "$app" "$(app_container)"
}

legacy_update() {
  local begun
  chapter "During: a release goes through both"
  legacy_target "$RELEASE_2"
  begun=$(now)
  # To the port that the supervisor had, as the cloud does it.
  curl -sf --noproxy '*' -m 10 -X POST "http://127.0.0.1:$OPEN/v1/update" || die "POST /v1/update is refused"
  wait_for 60 standin_has "$RELEASE_2" || die "the stand-in does not get the second release"
  standin_runs "$RELEASE_2"
  wait_for 60 is_done || die "the agent does not settle: $(api GET '/v3/status?detail=true')"
  wait_for 30 legacy_reported "$RELEASE_2" || die "nobody reports the second release"
  say "done" "polled by the agent, applied by the stand-in, reported to the backend: release $(legacy_report), after $(since "$begun") s"
  kept "app   " "$app" "$(app_container)"
}

legacy_restored() {
  local before between victim
  chapter "Back: the agent stops, handing back is killed in its middle, and begun again"
  daemon_stop agent 10
  before=$(started)
  daemon restore "${SERVICE[@]}" "$RUN/helios-legacy-takeover" --restore --restart container
  victim=$(cut -d' ' -f1 "$RUN/restore.pid")
  wait_for 30 grep -q "restarting the legacy" "$RUN/restore.log" || { cat "$RUN/restore.log" >&2; die "nothing is handed back"; }
  kill -KILL "$victim" 2>/dev/null || true
  indented killed <"$RUN/restore.log"
  # What the engine was asked it does.
  wait_for 30 answers_at "$OPEN" || true
  between=$(started)
  restore | indented again
  wait_for 30 answers_at "$OPEN" || die "the stand-in does not answer at its own port"
  [ "$(started)" != "$before" ] || die "the stand-in was not restarted"
  [ "$between" = "$before" ] || [ "$(started)" = "$between" ] || die "the stand-in was restarted twice"
  say "settings" "$(standin_rows)"
  wait_for 30 standin_has "$RELEASE_2" || die "the stand-in does not get its target"
  say "stand-in" "listens on $OPEN and polls the backend itself: release $(standin_release); restarted once"
  kept "app   " "$app" "$(app_container)"
  restore | indented "and again"
  kill "$TAIL"; TAIL=
}

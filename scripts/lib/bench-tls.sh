# The suite `tls` of scripts/bench: memory at rest of an agent that talks TLS to its backend. On the fake engine.

bench_tls() {
  local device port rss private peak threads
  device=$(random_id) port=$(free_port)
  fake_up "$FAKE_BIN"
  backend_up "$BACKEND_BIN"
  daemon tls python3 tests/bench/tls.py "$port" "${BACKEND##*:}" src/http/fixtures
  on_exit 'daemon_stop agent 10; daemon_stop tls 5; daemon_stop backend 5'
  jq -n --arg d "$device" '{($d): {name: "bench", config: {}, apps: {}}}' |
    control PUT target -H 'Content-Type: application/json' -d @- >/dev/null
  AGENT_OPTIONS="--remote-ca-file src/http/fixtures/ca.pem" AGENT_ENDPOINT=https://127.0.0.1:$port \
    HELIOS_TEST_ENGINE=$FAKE agent_up "$BIN" "$device"
  wait_for 60 reported 0 || die "the agent did not report: $(tail -n 3 "$RUN/tls.log" "$RUN/agent.log")"
  wait_for 60 is_done || die "the agent did not settle: $(status)"
  say "rest" "30 s"
  sleep 30
  read -r rss private peak threads < <(memory "$AGENT")
  row tls-rss-mib "idle, managed over TLS, resident" "$(mib "$rss")" MiB "$(mib "$peak") MiB at most before, $threads threads"
  row tls-private-mib "idle, managed over TLS, private" "$(mib "$private")" MiB
  bench_agent_end
  daemon_stop tls 5
  fake_down
}

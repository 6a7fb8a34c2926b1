# The suite `tls` of scripts/bench: what an agent that talks TLS to its backend holds and does at rest, and how soon it answers.
# On the fake engine. BENCH_REST is the length of the rest in seconds (300); each figure of memory is a median of ten.

bench_tls() {
  local device port start longest
  device=$(random_id) port=$(free_port)
  fake_up "$FAKE_BIN"
  backend_up "$BACKEND_BIN"
  read -r start longest < <(DOCKER_HOST=$FAKE python3 tests/bench/start.py "$BIN" "$RUN/starts" 11)
  row start-ms "start to the first /ping answered" "${start:?}" ms "median of 11, $longest ms at most"
  daemon tls python3 tests/bench/tls.py "$port" "${BACKEND##*:}" src/http/fixtures
  on_exit 'daemon_stop agent 10; daemon_stop tls 5; daemon_stop backend 5'
  jq -n --arg d "$device" '{($d): {name: "bench", config: {}, apps: {}}}' |
    control PUT target -H 'Content-Type: application/json' -d @- >/dev/null
  AGENT_OPTIONS="--remote-ca-file src/http/fixtures/ca.pem" AGENT_ENDPOINT=https://127.0.0.1:$port \
    HELIOS_TEST_ENGINE=$FAKE agent_up "$BIN" "$device"
  wait_for 60 reported 0 || die "the agent did not report: $(tail -n 3 "$RUN/tls.log" "$RUN/agent.log")"
  wait_for 60 is_done || die "the agent did not settle: $(status)"
  bench_tls_rest
  bench_agent_end
  daemon_stop tls 5
  fake_down
}

# bench_tls_rest: no poll falls into the rest, whose CPU time is that of an hour with the four polls of an hour added.
bench_tls_rest() {
  local rest=${BENCH_REST:-300} rss pss private threads wakes cpu peak polls
  say "rest" "30 s to settle, then $rest s"
  sleep 30
  read -r rss pss private threads wakes cpu < <(python3 tests/bench/rest.py "$AGENT" "$rest")
  [ -n "${cpu:-}" ] || die "the agent was not measured: $(tail -n 3 "$RUN/agent.log")"
  read -r _ _ peak _ < <(memory "$AGENT")
  row tls-rss-mib "idle, managed over TLS, resident" "$(mib "$rss")" MiB "$(mib "$pss") proportional, $(mib "$peak") at most before"
  row tls-private-kib "idle, managed over TLS, private" "$private" KiB "changed pages"
  bench_tls_pages
  row tls-threads "idle, managed over TLS, threads" "$threads" ""
  row tls-wakes "wake-ups in an idle minute" "$wakes" ""
  polls=$(cpu_ms "$AGENT")
  bench_tls_polls 4
  polls=$(($(cpu_ms "$AGENT") - polls))
  row tls-cpu-s "CPU in an idle hour" "$(awk -v a="$cpu" -v b="$polls" 'BEGIN { printf "%.3f", a + b / 1000 }')" s "$polls ms of it for 4 polls"
}
# bench_tls_pages: where the resident pages are; malloc's are all changed, and code and constants the file's.
bench_tls_pages() {
  local part rss changed size
  while read -r part rss changed size; do
    row "" "of it $part" "$rss" KiB "$changed changed, of $size"
  done < <(python3 tests/bench/pages.py "$AGENT")
}
# bench_tls_polls N: further apart than the backend keeps a connection, as polls are.
bench_tls_polls() {
  local before n
  for ((n = 0; n < $1; n++)); do
    sleep 11
    before=$(tls_polls)
    api POST /v1/update >/dev/null
    wait_for 30 tls_polled "$before" || die "the agent does not poll"
  done
  wait_for 30 is_done || die "the agent did not settle: $(status)"
}
tls_polls() { control GET requests | jq '[to_entries[] | select(.key | startswith("GET /device/v3/")) | .value] | add // 0'; }
tls_polled() { [ "$(tls_polls)" -gt "$1" ]; }

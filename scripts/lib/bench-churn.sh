# The suite `churn` of scripts/bench: what a day of new releases, one a minute, leaves behind in memory. On the fake engine.

bench_churn() {
  local count=${BENCH_RELEASES:-1440} device early late early_max late_max took reports
  device=$(random_id)
  fake_up "$FAKE_BIN"
  backend_up "$BACKEND_BIN"
  on_exit 'daemon_stop agent 10; daemon_stop backend 5'
  # No pause between polls: each release is there as soon as the former one is done.
  AGENT_OPTIONS="--remote-poll-min-interval-ms 1 --remote-poll-max-jitter-ms 1 --local-retry-interval-ms 200" \
    HELIOS_TEST_ENGINE=$FAKE RUST_LOG=warn agent_up "$BIN" "$device"
  say "churn" "$count releases"
  python3 tests/bench/churn.py "unix://$RUN/api.sock" "http://$BACKEND" "$FAKE" "$AGENT" "$device" "$count" \
    ${BENCH_TRACE:+--trace "$BENCH_TRACE"} >"$RUN/churn.out" ||
    { tail -n 30 "$RUN/agent.log" >&2; die "the agent did not keep up"; }
  read -r early late early_max late_max took <"$RUN/churn.out"
  reports=$(control GET reports | jq length)
  row churn-kib "$count releases, private memory grown" "$((late - early))" KiB "$early KiB after the first 60"
  row churn-max-kib "the same, highest" "$((late_max - early_max))" KiB "$early_max KiB before; $reports reports, $took s"
  bench_agent_end
  fake_down
}

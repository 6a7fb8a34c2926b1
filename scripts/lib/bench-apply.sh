# The suite `apply` of scripts/bench: size, memory at rest, memory and time of an apply beside a plain loop.

bench_apply() {
  local count rss private peak threads
  image_make helios-bench/sleep:1 $'CMD ["sleep", "infinity"]\nSTOPSIGNAL SIGKILL'
  IMAGE=$HELIOS_TEST_REGISTRY/helios-bench/sleep:1
  row binary-mib "binary, static" "$(awk -v b="$(stat -c %s "$BIN")" 'BEGIN { printf "%.3f", b / 1048576 }')" MiB

  bench_agent
  say "rest" "30 s"
  sleep 30
  read -r rss private peak threads < <(memory "$AGENT")
  row idle-rss-mib "idle, resident" "$(mib "$rss")" MiB "$threads threads"
  row idle-private-mib "idle, private" "$(mib "$private")" MiB
  bench_agent_end
  for count in ${BENCH_SERVICES:-10 60 240}; do bench_services "$count"; done
}

# bench_services N: the loop, the agent, the loop again.
bench_services() {
  local n=$1 app release before after took cpu loop rss private peak threads found
  app=$(random_id) release=$(random_id)
  on_exit "app_drop $app $release"
  before=$(python3 tests/bench/loop.py "$HELIOS_TEST_ENGINE" "$IMAGE" "$n")
  bench_agent
  cpu=$(cpu_ms "$AGENT")
  took=$(bench_post "$app" "$release" "$IMAGE" "$n")
  cpu=$(($(cpu_ms "$AGENT") - cpu))
  read -r rss private peak threads < <(memory "$AGENT")
  found=$(engine GET "/containers/json?filters=$(jq -rn --arg r "$release" '{name: [$r]} | tojson | @uri')" | jq length)
  [ "$found" = "$n" ] || die "the agent said done, but $found of $n containers run"
  bench_agent_end
  app_drop "$app" "$release"
  after=$(python3 tests/bench/loop.py "$HELIOS_TEST_ENGINE" "$IMAGE" "$n")
  loop=$(awk -v a="$before" -v b="$after" 'BEGIN { printf "%.2f", (a + b) / 2 }')
  row "peak-$n-mib" "$n services, highest resident" "$(mib "$peak")" MiB "$(mib "$rss") MiB after, $threads threads"
  row "time-$n" "$n services, POST to done" "$(awk -v t="$took" 'BEGIN { printf "%.2f", t }')" s \
    "plain loop $loop s ($(printf '%.1f, %.1f' "$before" "$after"))"
  row "ratio-$n" "$n services, times the plain loop" "$(ratio "$took" "$loop")" ""
  row "cpu-$n" "$n services, CPU of the agent" "$cpu" ms
}

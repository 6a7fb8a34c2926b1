# The suite `seek` of scripts/bench: memory while pulling, growth of planning, healing, what is written at rest.

bench_seek() {
  local app release; app=$(random_id) release=$(random_id)
  on_exit "app_drop $app $release"
  bench_plan
  bench_pull_images
  # A poll a second, so that a minute has as many of them as 15 hours.
  AGENT_OPTIONS="--remote-poll-interval-ms 1000 --remote-poll-min-interval-ms 500 --remote-poll-max-jitter-ms 1" bench_agent
  bench_pull "$app" "$release"
  bench_heal "$release"
  bench_idle
  bench_agent_end
  app_drop "$app" "$release"
  images_down
}

# The rules and the planner alone, without an engine, as a test prints it.
bench_plan() {
  local few many few_rules many_rules
  say "cargo" "test --release --lib issue_5_planning"
  cargo test --locked --release --lib issue_5_planning -- --nocapture </dev/null >"$RUN/plan.log" 2>&1 ||
    { tail -n 20 "$RUN/plan.log" >&2; die "the planner was not measured"; }
  read -r few few_rules many many_rules < <(sed -n 's/.*planning [0-9]* services: \([0-9]*\) us, \([0-9]*\) us of it.*/\1 \2/p' "$RUN/plan.log" |
    xargs)
  row plan-growth "planning 240 services to 60" "$(ratio "$many" "$few")" "" \
    "CPU $((few / 1000)), $((many / 1000)) ms; $((few_rules / 1000)), $((many_rules / 1000)) in rules"
}

# Ten images of 20 MiB of noise, on the registry and not on the engine.
bench_pull_images() {
  local n
  for n in {0..9}; do
    head -c 20971520 /dev/urandom >"$RUN/noise"
    image_make "helios-bench/pull$n:1" $'CMD ["sleep", "infinity"]\nSTOPSIGNAL SIGKILL' noise "@$RUN/noise"
    image_push "helios-bench/pull$n:1" >/dev/null
    say "image" "$((n + 1)) of 10, 20 MiB"
  done
  rm "$RUN/noise"
  images_down
}

# bench_pull APP RELEASE: all of them by one release.
bench_pull() {
  local took rss private peak threads
  took=$(bench_post "$1" "$2" "$HELIOS_TEST_REGISTRY/helios-bench/pull%:1" 10)
  read -r rss private peak threads < <(memory "$AGENT")
  row peak-pull-mib "10 images of 20 MiB pulled, highest" "$(mib "$peak")" MiB "$(mib "$rss") MiB after"
  row time-pull "the same, POST to done" "$(awk -v t="$took" 'BEGIN { printf "%.2f", t }')" s "200 MiB"
}

# bench_heal RELEASE: the slowest of ten.
bench_heal() {
  local times
  times=$(python3 tests/bench/heal.py "$HELIOS_TEST_ENGINE" "$1" 10) || die "a removed service did not come back"
  row heal-s "removed by hand, runs again, slowest" "${times% *}" s "of 10; mean ${times#* } s"
}

# A minute at rest, polls and all: what the kernel counts as written to storage, and what the files themselves say.
# Where the file system has no storage (tmpfs), only the latter counts.
bench_idle() {
  local before files bytes changed asked
  wait_for 30 is_done || die "the agent did not settle: $(status)"
  say "rest" "15 s to settle, then 60 s"
  sleep 15
  before=$(written) files=$(stats) asked=$(polls)
  sleep 60
  bytes=$(($(written) - before))
  changed=$(diff <(echo "$files") <(stats) | sed -n 's/^> //p' | awk '{ s += $1 } END { print s + 0 }')
  row idle-bytes "bytes written at rest, in 60 s" "$((bytes + changed))" "" \
    "$(($(polls) - asked)) polls; $((before / 1024)) KiB before that"
}
written() { awk '/^write_bytes/ { print $2 }' "/proc/$AGENT/io"; }
# Size, time of change, inode and name of every file of the agent, its log too.
stats() { find "$RUN/agent" "$RUN/agent.log" -printf '%s %C@ %i %p\n' | sort -k4; }
polls() { control GET requests | jq '[to_entries[] | select(.key | test("state")) | .value] | add // 0'; }

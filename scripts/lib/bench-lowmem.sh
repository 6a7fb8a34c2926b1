# The suite `lowmem` of scripts/bench: the smallest memory limit under which the main job completes. On the fake engine.
#
# The agent alone is in a control group with a hard limit and no swap: its heap and stacks, its page tables and sockets, and the
# pages of files that it is the first to touch. So that its own code is among them, each trial runs a fresh copy of the
# binary, which is on disk and not in the kernel's cache. The kernel may drop such pages and read them again, so "completes"
# has a time: twice that of the job without a limit. (A dynamically linked binary has the advantage that the
# pages of its libraries are somebody else's already.) The copy is on a file system of its own, because how much the kernel reads
# around what is used is a matter of the device: 128 KiB is what it does on a board; servers and virtual machines may
# have it at megabytes, which brings in the whole binary again with each page that was dropped.
# HELIOS_BENCH_OTHER is another binary that takes the same options, run beside; HELIOS_BENCH_OTHER_OPTIONS are more of them. One
# that does not trust the front's certificate (SSL_CERT_FILE) is measured without TLS, and that is said.

# In KiB: what is not looked for any closer, and what is surely enough.
LOWMEM_STEP=64 LOWMEM_MOST=262144

bench_lowmem() {
  lowmem_up
  bench_lowmem_of "$BIN" lowmem-mib "smallest limit for the main job" "--remote-ca-file $ROOT/src/http/fixtures/ca.pem" https ||
    die "the agent does not do the main job without a limit: $(tail -n 5 "$RUN/lowmem.err")"
  [ -z "${HELIOS_BENCH_OTHER:-}" ] || bench_lowmem_other "$(readlink -f "$HELIOS_BENCH_OTHER")"
  lowmem_down
}

bench_lowmem_other() {
  local scheme
  [ -f "$1" ] || die "no binary: $1"
  for scheme in https http; do
    if bench_lowmem_of "$1" lowmem-other-mib "the same, ${1##*/} over $scheme" "${HELIOS_BENCH_OTHER_OPTIONS:-}" "$scheme"; then return; fi
    say "lowmem" "${1##*/} does not do the main job over $scheme, without a limit"
  done
}

# bench_lowmem_of BINARY NAME TEXT OPTIONS SCHEME: looks for the limit by halves; fails if the job fails without one.
bench_lowmem_of() {
  local low=0 high free middle seconds peak
  LOWMEM_BIN=$1 LOWMEM_OPTIONS=$4 LOWMEM_SCHEME=$5 LOWMEM_SECONDS=120
  lowmem_trial "$LOWMEM_MOST" || return 1
  free=$LOWMEM_TOOK peak=$LOWMEM_PEAK
  LOWMEM_SECONDS=$(awk -v t="$free" 'BEGIN { printf "%.0f", 2 * t }')
  # What it used with no limit in sight is enough, but for the steps in which the kernel charges: the double surely is.
  high=$(((peak / LOWMEM_STEP + 1) * LOWMEM_STEP))
  until lowmem_trial "$high"; do low=$high high=$((high * 2)); done
  seconds=$LOWMEM_TOOK
  while [ $((high - low)) -gt "$LOWMEM_STEP" ]; do
    middle=$(((low + high) / 2 / LOWMEM_STEP * LOWMEM_STEP))
    if lowmem_trial "$middle"; then high=$middle seconds=$LOWMEM_TOOK; else low=$middle; fi
  done
  row "$2" "$3" "$(mib "$high")" MiB "$seconds s, $free s without a limit"
}

# lowmem_trial KIB: the job under that limit; sets LOWMEM_TOOK and LOWMEM_PEAK (KiB).
lowmem_trial() {
  local code=0
  LOWMEM_TOOK=$(lowmem_job "$1" 2>"$RUN/lowmem.err") || code=1
  LOWMEM_PEAK=$(($(cat "$LOWMEM_GROUP/memory.$LOWMEM_PEAK_FILE" 2>/dev/null || echo 0) / 1024))
  for part in agent backend fake; do daemon_stop "$part" 2; done
  rm -rf "$RUN/agent" "$RUN/api.sock" "$RUN"/lowmem/helios "$RUN/fake.sock"
  wait_for 5 rmdir "$LOWMEM_GROUP" || die "the control group does not go: $LOWMEM_GROUP"
  say "lowmem" "$1 KiB: $([ "$code" = 0 ] && echo "$LOWMEM_TOOK s" || echo "no: $(tail -n 1 "$RUN/lowmem.err" | cut -c 12-)"), used $LOWMEM_PEAK KiB"
  return "$code"
}
# lowmem_job KIB: in a subshell of its own, because whatever does not start ends it. Prints the seconds.
lowmem_job() {
  local device copy=$RUN/lowmem/helios endpoint
  SAY_FD=2
  device=$(random_id)
  mkdir "$LOWMEM_GROUP"
  lowmem_limit "$1"
  cp "$LOWMEM_BIN" "$copy"
  printf '#!/bin/sh\necho $$ >%s/cgroup.procs && exec %s "$@"\n' "$LOWMEM_GROUP" "$copy" >"$RUN/lowmem-agent"
  chmod +x "$copy" "$RUN/lowmem-agent"
  cold "$copy"
  daemon fake "$FAKE_BIN" --socket "$RUN/fake.sock"
  daemon backend "$BACKEND_BIN" --listen "$BACKEND"
  wait_for 10 control GET requests || die "the backend did not start"
  wait_for 10 engine_at "unix://$RUN/fake.sock" GET /_ping || die "the fake engine did not start"
  jq -n --arg d "$device" '{($d): {name: "bench", config: {}, apps: {}}}' |
    control PUT target -H 'Content-Type: application/json' -d @- >/dev/null
  endpoint=$LOWMEM_SCHEME://127.0.0.1:$LOWMEM_PORT
  [ "$LOWMEM_SCHEME" = https ] || endpoint=http://$BACKEND
  # Each poll has a connection of its own, as in the field: the front closes them sooner than the next one comes.
  AGENT_OPTIONS="--remote-poll-interval-ms 200 --remote-poll-min-interval-ms 200 --remote-poll-max-jitter-ms 1 $LOWMEM_OPTIONS" \
    AGENT_ADDRESS=$RUN/api.sock AGENT_ENDPOINT=$endpoint HELIOS_TEST_ENGINE=unix://$RUN/fake.sock \
    SSL_CERT_FILE=$ROOT/src/http/fixtures/ca.pem agent_up "$RUN/lowmem-agent" "$device"
  timeout "$((LOWMEM_SECONDS + 10))" python3 tests/bench/lowmem.py "unix://$RUN/api.sock" "http://$BACKEND" "unix://$RUN/fake.sock" "$device" "$LOWMEM_SECONDS"
}

# The kernel has the memory controller in its first or its second version; some have it in neither place.
lowmem_up() {
  LOWMEM_PORT=$(free_port) BACKEND=127.0.0.1:$(free_port)
  [ "$(id -u)" = 0 ] || die "only root can make a control group"
  if [ -f /sys/fs/cgroup/memory/memory.limit_in_bytes ]; then
    LOWMEM_GROUP=/sys/fs/cgroup/memory/helios-bench-$$ LOWMEM_PEAK_FILE=max_usage_in_bytes
  elif grep -qs memory /sys/fs/cgroup/cgroup.controllers; then
    echo +memory >/sys/fs/cgroup/cgroup.subtree_control || die "the memory controller is not to be had"
    LOWMEM_GROUP=/sys/fs/cgroup/helios-bench-$$ LOWMEM_PEAK_FILE=peak
  else
    die "there is no memory controller in /sys/fs/cgroup"
  fi
  need losetup:mount mkfs.ext4:e2fsprogs
  on_exit lowmem_down
  mkdir "$RUN/lowmem"
  truncate -s 128M "$RUN/lowmem.ext4"
  mkfs.ext4 -q "$RUN/lowmem.ext4"
  # Not through the cache of the file that it is in, whose pages would be the agent's once more.
  LOWMEM_LOOP=$(losetup --find --show --direct-io=on "$RUN/lowmem.ext4") || die "there is no loop device"
  echo 128 >"/sys/block/${LOWMEM_LOOP##*/}/queue/read_ahead_kb"
  mount "$LOWMEM_LOOP" "$RUN/lowmem"
  daemon tls python3 tests/bench/tls.py "$LOWMEM_PORT" "${BACKEND##*:}" src/http/fixtures 0.15
}
lowmem_down() {
  for part in agent backend fake tls; do daemon_stop "$part" 2; done
  [ ! -d "$LOWMEM_GROUP" ] || rmdir "$LOWMEM_GROUP"
  ! mountpoint -q "$RUN/lowmem" || umount "$RUN/lowmem"
  [ -z "${LOWMEM_LOOP:-}" ] || losetup -d "$LOWMEM_LOOP"
  LOWMEM_LOOP=
}
lowmem_limit() {
  if [ -f "$LOWMEM_GROUP/memory.limit_in_bytes" ]; then
    echo "$1K" >"$LOWMEM_GROUP/memory.limit_in_bytes"
    # Without swap accounting there is no such file; then there is to be no swap.
    [ ! -f "$LOWMEM_GROUP/memory.memsw.limit_in_bytes" ] || echo "$1K" >"$LOWMEM_GROUP/memory.memsw.limit_in_bytes"
  else
    echo "$1K" >"$LOWMEM_GROUP/memory.max"
    [ ! -f "$LOWMEM_GROUP/memory.swap.max" ] || echo 0 >"$LOWMEM_GROUP/memory.swap.max"
  fi
}

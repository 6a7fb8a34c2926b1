# What every script shares: progress lines, a run directory, clean-up, missing packages. Sourced, never run.
# Leaves nothing behind: everything a run makes is in $RUN, and what stands outside of it (processes, bridges)
# is noted there, so that a run that was killed is cleaned up by the next one.

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
CACHE=${HELIOS_CACHE:-$HOME/.cache/helios-test}
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin
mkdir -p "$CACHE"
SAY_FD=${SAY_FD:-1}

say() { printf '%-10s %s\n' "$1" "$2" >&"$SAY_FD"; }
die() { printf '%-10s %s\n' "error" "$1" >&2; exit 1; }

# Seconds since the epoch with milliseconds; and what passed since such a moment.
now() { date +%s.%3N; }
since() { awk -v a="$1" -v b="$(now)" 'BEGIN { printf "%.1f", b - a }'; }

# on_exit COMMAND: runs it when the script ends, however it ends; the last one first.
EXITS=()
on_exit() {
  EXITS+=("$1")
  trap at_exit EXIT
  trap 'exit 130' INT
  trap 'exit 143' TERM HUP
}
at_exit() {
  local code=$? i
  trap '' INT TERM HUP
  trap - EXIT
  set +e
  for ((i = ${#EXITS[@]} - 1; i >= 0; i--)); do eval "${EXITS[i]}"; done
  exit "$code"
}

# run_start: the run's own directory, in $RUN; those of runs that died are cleaned up.
run_start() {
  local dir
  for dir in "${TMPDIR:-/tmp}"/helios-run-??????/; do
    [ -f "$dir/owner" ] && [ -O "$dir" ] || continue
    is_alive "$(cat "$dir/owner")" || {
      say "clean-up" "what a killed run left in ${dir%/}"
      (set +e; RUN=${dir%/}; run_end)
    }
  done
  RUN=$(mktemp -d "${TMPDIR:-/tmp}/helios-run-XXXXXX")
  echo "$$ $(started_at $$)" >"$RUN/owner"
  on_exit run_end
}
run_end() {
  local part
  for part in images podman engine_new registry engine; do
    if declare -F "${part}_down" >/dev/null; then "${part}_down"; fi
  done
  ! mountpoint -q "$RUN/static" || umount "$RUN/static"
  # A data root that could not be taken apart is kept, and said.
  rm -rf --one-file-system "$RUN" || say "clean-up" "could not remove $RUN"
}

# A process is named by its id and its start time, so that a reused id is not mistaken for it.
started_at() { sed 's/.*) //' "/proc/$1/stat" 2>/dev/null | cut -d' ' -f20; }
is_alive() { local pid start; read -r pid start <<<"$1"; [ -n "$pid" ] && [ "$(started_at "$pid")" = "$start" ]; }

# daemon NAME COMMAND...: starts it apart from the terminal's signals, notes it in $RUN, logs to $RUN/NAME.log.
daemon() {
  local name=$1; shift
  setsid "$@" >>"$RUN/$name.log" 2>&1 </dev/null &
  echo "$! $(started_at $!)" >"$RUN/$name.pid"
  disown
}
# daemon_stop NAME [SECONDS]: asks it to end, waits, then insists.
daemon_stop() {
  local note pid
  [ -f "$RUN/$1.pid" ] || return 0
  note=$(cat "$RUN/$1.pid"); pid=${note%% *}
  is_alive "$note" && kill "$pid" 2>/dev/null
  wait_for "${2:-10}" daemon_gone "$note" || kill -KILL "$pid" 2>/dev/null
  rm -f "$RUN/$1.pid"
}
daemon_gone() { ! is_alive "$1" || [ "$(sed 's/.*) //' "/proc/${1%% *}/stat" 2>/dev/null | cut -c1)" = Z ]; }

# wait_for SECONDS COMMAND...: until the command succeeds; fails when the time is up.
wait_for() {
  local end=$((SECONDS + $1)); shift
  until "$@" >/dev/null 2>&1; do
    [ "$SECONDS" -lt "$end" ] || return 1
    sleep 0.05
  done
}

# cold FILE: takes it out of the kernel's cache, as a start of the machine does. What was just written is there in large
# pieces, which recent kernels map whole, and is the writer's own until it is on disk.
cold() { sync "$1" && dd if="$1" iflag=nocache count=0 2>/dev/null; }

# free_port: one on which nothing listens, below the range that the kernel gives out by itself.
free_port() {
  local port
  while port=$((20000 + RANDOM % 12000)); (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; do :; done
  echo "$port"
}

# need TOOL:PACKAGE...: installs, with a word before, the packages of the tools that are missing.
# No service is started by the installation.
need() {
  local pair packages=() policy=/usr/sbin/policy-rc.d
  for pair; do command -v "${pair%%:*}" >/dev/null || packages+=("${pair#*:}"); done
  [ ${#packages[@]} -gt 0 ] || return 0
  command -v apt-get >/dev/null || die "missing, and there is no apt-get to install it: ${packages[*]}"
  [ "$(id -u)" = 0 ] || die "missing, and only root can install it: ${packages[*]}"
  on_exit policy_drop
  say "install" "apt-get install --no-install-recommends ${packages[*]}"
  [ -e "$policy" ] || { printf '#!/bin/sh\n# helios: for one installation\nexit 101\n' >"$policy"; chmod +x "$policy"; }
  apt_install "${packages[@]}" || { apt_get update && apt_install "${packages[@]}"; } ||
    { policy_drop; die "apt-get could not install: ${packages[*]}"; }
  policy_drop
  hash -r
}
# need_python MODULE:PACKAGE: PYTHON is an interpreter that has the module.
need_python() {
  for PYTHON in python3 /usr/bin/python3; do "$PYTHON" -c "import ${1%%:*}" 2>/dev/null && return; done
  command -v apt-get >/dev/null && [ "$(id -u)" = 0 ] || die "python3 has no ${1%%:*}, and only root on Debian can install it"
  say "install" "apt-get install --no-install-recommends ${1#*:}"
  apt_install "${1#*:}" || { apt_get update && apt_install "${1#*:}"; } || die "apt-get could not install: ${1#*:}"
}
policy_drop() { ! grep -qs 'helios: for one installation' /usr/sbin/policy-rc.d || rm -f /usr/sbin/policy-rc.d; }
apt_get() { DEBIAN_FRONTEND=noninteractive apt-get -qq "$@" </dev/null >>"${RUN:-$CACHE}/apt.log" 2>&1; }
apt_install() { apt_get install -y --no-install-recommends "$@"; }

# apt_mirror: the Debian mirror that this machine's apt uses.
apt_mirror() {
  apt-get indextargets --format '$(REPO_URI)' 'Identifier: Packages' | grep -E '/debian/?$' | sort -u | head -n 1
}

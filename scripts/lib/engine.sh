# A container engine for tests: the one that answers already, else a private one. Sourced after common.sh.
# Exports HELIOS_TEST_ENGINE (unix:// or tcp:// URL). Needs root for a private engine; installs docker.io then.

# engine METHOD PATH [curl options]: one call of the engine's API; prints the body, fails on 4xx and 5xx.
engine() { engine_at "$HELIOS_TEST_ENGINE" "$@"; }
engine_at() {
  local url=$1 method=$2 path=$3; shift 3
  local call=(curl -sS --fail-with-body --noproxy '*' -X "$method" "$@")
  case $url in
    unix://*) "${call[@]}" --unix-socket "${url#unix://}" "http://engine$path" ;;
    tcp://*) "${call[@]}" "http://${url#tcp://}$path" ;;
    http://*) "${call[@]}" "${url%/}$path" ;;
    *) echo "no engine address: $url" >&2; return 1 ;;
  esac
}

engine_up() {
  local url begun
  need curl:curl jq:jq
  for url in ${DOCKER_HOST:-} unix:///var/run/docker.sock; do
    if engine_at "$url" GET /_ping -m 5 >/dev/null 2>&1; then
      if engine_has_apps "$url"; then
        say "engine" "at $url runs apps of an agent, which an agent under test would remove: left alone"
        continue
      fi
      export HELIOS_TEST_ENGINE=$url
      echo "$url" >"$RUN/engine.url"
      say "engine" "$(engine_name), answers at $url and is used"
      return
    fi
    [ "$url" != "${DOCKER_HOST:-}" ] || say "engine" "none answers at DOCKER_HOST=$url"
  done
  need dockerd:docker.io iptables:iptables ip:iproute2
  [ "$(id -u)" = 0 ] || die "no engine answers, and only root can start one"
  begun=$(now)
  export HELIOS_TEST_ENGINE=unix://$RUN/engine.sock
  echo "$HELIOS_TEST_ENGINE" >"$RUN/engine.url"
  engine_start
  say "engine" "$(engine_name), private, ready after $(since "$begun") s"
}
# engine_has_apps URL: whether an agent of this family made something there.
engine_has_apps() {
  local what
  for what in '/containers/json?all=1' /networks /volumes; do
    engine_at "$1" GET "$what" -m 10 2>/dev/null | grep -qE 'io\.(balena|resin)\.(supervised|private\.config)' && return
  done
  return 1
}
engine_name() {
  engine GET /version | jq -r '"\(.Components[0].Name // "engine") \(.Version), API \(.ApiVersion)"'
}

# engine_start: also used by tests of an engine that went away; a second call of a running one does nothing.
engine_start() {
  engine GET /_ping -m 2 >/dev/null 2>&1 && return
  mkdir -p "$RUN/engine"
  [ -f "$RUN/bridge" ] || bridge_add "$RUN/bridge"
  rm -f "$RUN/engine.sock"
  daemon engine dockerd $(engine_flags engine "$RUN/bridge")
  wait_for 30 engine GET /_ping -m 2 || { tail -n 20 "$RUN/engine.log" >&2; die "dockerd did not start"; }
}
# engine_flags NAME BRIDGE-FILE: everything in the run directory, nothing of the machine's daemon.json, and no
# firewall rule of the host: published ports go through docker-proxy, names are resolved in the containers.
engine_flags() {
  echo '{}' >"$RUN/$1/daemon.json"
  printf '%s\n' -H "unix://$RUN/$1.sock" --group "$(id -g)" --config-file "$RUN/$1/daemon.json" \
    --data-root "$RUN/$1/data" --exec-root "$RUN/$1/exec" --pidfile "$RUN/$1/pid" \
    --bridge "$(cat "$2")" --default-address-pool base=10.213.0.0/16,size=24 \
    --iptables=false --ip-forward=false --ip-masq=false --shutdown-timeout 3 --log-level warn
}
# bridge_add FILE: a bridge of our own with a free subnet, so that no docker0 is made or changed; name to FILE.
bridge_add() {
  local name subnet
  name=helios$(od -An -N3 -tx1 /dev/urandom | tr -d ' \n')
  while subnet=10.212.$((RANDOM % 256)); ip -4 addr | grep -qF " $subnet."; do :; done
  echo "$name" >"$1"
  ip link add name "$name" type bridge
  ip addr add "$subnet.1/24" dev "$name"
  ip link set "$name" up
}

engine_down() { private_engine_down engine "$RUN/bridge"; }
# private_engine_down NAME BRIDGE-FILE: containers, networks, daemon, mounts, bridges; nothing if it was not ours.
private_engine_down() {
  local dir=$RUN/$1 bridge
  [ -d "$dir" ] || return 0
  engine_empty "unix://$RUN/$1.sock"
  daemon_stop "$1" 10
  kill_all_of "$dir"
  # Deepest first; what is in a mount namespace of its own went with it.
  awk -v d="$dir/" 'index($5, d) == 1 { print $5 }' /proc/self/mountinfo | sort -r | xargs -r -n1 umount -l 2>/dev/null
  for bridge in $(cat "$2" 2>/dev/null) \
    $(grep -aohE 'br-[0-9a-f]{12}' "$dir/data/network/files/local-kv.db" 2>/dev/null | sort -u); do
    ip link del "$bridge" 2>/dev/null
  done
  rm -rf --one-file-system "$dir" "$2" "$RUN/$1.sock"
}
# engine_empty URL: removes every container and network. Only for a private engine.
engine_empty() {
  local id
  engine_at "$1" GET '/containers/json?all=1' -m 10 2>/dev/null | jq -r '.[].Id' 2>/dev/null |
    while read -r id; do engine_at "$1" DELETE "/containers/$id?force=1&v=1" -m 30; done >/dev/null 2>&1
  engine_at "$1" POST /networks/prune -m 30 >/dev/null 2>&1
}
# kill_all_of DIR: processes that a killed daemon left: its containers, then its helpers, whose command lines name it.
kill_all_of() {
  local pid file
  for pid in $(cat "$1"/exec/containerd/daemon/io.containerd.runtime.v2.task/moby/*/init.pid 2>/dev/null); do
    kill -KILL "$pid" 2>/dev/null
  done
  for file in $(grep -laF "$1/" /proc/[0-9]*/cmdline 2>/dev/null); do
    pid=${file//[^0-9]/}
    case $(cat "/proc/$pid/comm" 2>/dev/null) in
      dockerd | containerd* | docker-proxy | docker-init) kill -KILL "$pid" 2>/dev/null ;;
    esac
  done
}

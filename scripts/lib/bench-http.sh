# The suite `http` of scripts/bench: requests, CPU and memory of the agent's server beside nginx's, what idle
# connections and large transfers cost, and whether a second client is served while 500 slow ones hold on.

bench_http() {
  local nginx port dir=$RUN/http
  need wrk:wrk nginx:nginx-light slowhttptest:slowhttptest python3:python3
  cargo build --locked --release --example http </dev/null
  mkdir -p "$dir/www"
  port=$(free_port) HTTP_PORT=$(free_port)
  printf OK >"$dir/www/ping"
  cat >"$dir/nginx.conf" <<CONF
user root; daemon off; worker_processes 1; pid $dir/pid; error_log $dir/error.log;
events { worker_connections 256; }
http { access_log off; keepalive_requests 1000000000; server { listen 127.0.0.1:$port; root $dir/www; } }
CONF
  daemon nginx nginx -c "$dir/nginx.conf"
  on_exit "daemon_stop nginx; daemon_stop http"
  wait_for 10 curl -sf --noproxy '*' "http://127.0.0.1:$port/ping" || die "nginx did not start"
  nginx=$(pgrep -P "$(cut -d' ' -f1 "$RUN/nginx.pid")")

  AGENT_OPTIONS="--local-api-address 127.0.0.1:$HTTP_PORT" bench_http_agent
  for connections in 1 50; do
    bench_http_load "$nginx" "$port" "$connections"; theirs=$HTTP_CPU theirs_rate=$HTTP_RATE
    bench_http_load "$AGENT" "$HTTP_PORT" "$connections"
    row "http-rate-$connections" "GET /ping a second, $connections connections" "$HTTP_RATE" "" "nginx $theirs_rate"
    row "http-cpu-$connections" "CPU of one, times nginx's" "$(ratio "$HTTP_CPU" "$theirs")" "" "$HTTP_CPU us, nginx $theirs us"
  done
  bench_http_idle
  bench_http_slow
  bench_agent_end
  bench_http_big
  daemon_stop nginx
}
bench_http_agent() {
  declare -F bench_agent >/dev/null || . scripts/lib/bench-apply.sh
  bench_agent
}

# bench_http_load PID PORT CONNECTIONS: HTTP_RATE in requests a second, HTTP_CPU in microseconds of PID for one.
bench_http_load() {
  local begun ended requests
  wrk -t1 -c"$3" -d1s "http://127.0.0.1:$2/ping" >/dev/null
  begun=$(cpu_of "$1")
  wrk -t1 -c"$3" -d5s "http://127.0.0.1:$2/ping" >"$RUN/wrk.out"
  ended=$(cpu_of "$1")
  ! grep -E 'Non-2xx|Socket errors' "$RUN/wrk.out" || die "not every request was answered"
  requests=$(awk '/requests in/ { print $1 }' "$RUN/wrk.out")
  HTTP_RATE=$(awk '/^Requests\/sec/ { printf "%d", $2 }' "$RUN/wrk.out")
  HTTP_CPU=$(awk -v t="$((ended - begun))" -v h="$(getconf CLK_TCK)" -v n="$requests" 'BEGIN { printf "%.1f", t / h / n * 1e6 }')
}
# cpu_of PID: ticks, user and system.
cpu_of() { sed 's/.*) //' "/proc/$1/stat" | awk '{ print $12 + $13 }'; }
dirty() { awk '/^Private_Dirty/ { print $2 }' "/proc/$1/smaps_rollup"; }

bench_http_idle() {
  local before after
  before=$(dirty "$AGENT")
  coproc HELD { python3 tests/bench/idle.py 127.0.0.1 "$HTTP_PORT" 100; }
  read -r _ <&"${HELD[0]}" || die "the idle connections were not taken"
  after=$(dirty "$AGENT")
  echo >&"${HELD[1]}"
  wait "$HELD_PID" || true
  row http-idle-kib "memory of an idle connection" "$(ratio "$((after - before))" 100)" KiB "private dirty, of 100"
}

bench_http_slow() {
  local mode result asked longest
  for mode in -H -B -X; do
    slowhttptest "$mode" -c 500 -r 250 -i 5 -l 10 -p 5 -u "http://127.0.0.1:$HTTP_PORT/ping" >"$RUN/slow$mode.out" 2>&1 &
    result=$(python3 tests/bench/second.py 127.0.0.1 "$HTTP_PORT" 10) || die "a second client was not served"
    wait $! || true
    read -r asked longest <<<"$result"
    row http-slow-ms "a second client's longest wait, $mode" "$longest" ms "500 slow connections, asked $asked times"
  done
}

bench_http_big() {
  local bin pid rss high client
  bin=$(target_dir)/release/examples/http
  daemon http "$bin" serve "127.0.0.1:$HTTP_PORT"
  pid=$(cut -d' ' -f1 "$RUN/http.pid")
  wait_for 10 curl -sf --noproxy '*' "http://127.0.0.1:$HTTP_PORT/ping" || die "the server did not start"
  read -r rss _ high _ < <(memory "$pid")
  client=$("$bin" fetch "127.0.0.1:$HTTP_PORT" 100) || die "not every transfer was complete"
  read -r _ _ high _ < <(memory "$pid")
  row http-big-mib "100 transfers of 10 MiB, server" "$(mib "$((high - rss))")" MiB "more than at rest"
  row http-big-mib "the same, client" "$(mib "$client")" MiB "more than at rest"
  daemon_stop http

  daemon http "$bin" serve "127.0.0.1:$HTTP_PORT"
  pid=$(cut -d' ' -f1 "$RUN/http.pid")
  wait_for 10 curl -sf --noproxy '*' "http://127.0.0.1:$HTTP_PORT/ping" || die "the server did not start"
  read -r rss _ high _ < <(memory "$pid")
  head -c 1G /dev/zero | curl -sf --noproxy '*' -T - "http://127.0.0.1:$HTTP_PORT/sink" || die "1 GiB was not taken"
  read -r _ _ high _ < <(memory "$pid")
  row http-gib-kib "a body of 1 GiB, server" "$((high - rss))" KiB "more than at rest"
  daemon_stop http
}

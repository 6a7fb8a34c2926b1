# The suite `proxy` of scripts/bench: what the agent adds to requests for a legacy supervisor, beside haproxy in front of
# the same server (nginx), and what streams and a large body cost in memory. Needs no engine.

bench_proxy() {
  local dir=$RUN/proxy nginx_port haproxy_port port theirs theirs_ms direct_ms ours_ms rss high
  need wrk:wrk nginx:nginx-light haproxy:haproxy python3:python3
  nginx_port=$(free_port) haproxy_port=$(free_port) port=$(free_port)
  mkdir -p "$dir"/{www,home}
  head -c 1024 /dev/zero | tr '\0' x >"$dir/www/kib"
  truncate -s 1G "$dir/www/gib"
  cat >"$dir/nginx.conf" <<CONF
user root; daemon off; worker_processes 1; pid $dir/pid; error_log $dir/error.log;
events { worker_connections 512; }
http { access_log off; keepalive_requests 1000000000;
  server { listen 127.0.0.1:$nginx_port; root $dir/www; location /slow/ { alias $dir/www/; limit_rate 64k; } } }
CONF
  cat >"$dir/haproxy.cfg" <<CONF
global
  nbthread 1
defaults
  mode http
  timeout connect 6s
  timeout client 60s
  timeout server 60s
frontend front
  bind 127.0.0.1:$haproxy_port
  default_backend back
backend back
  http-reuse always
  server one 127.0.0.1:$nginx_port
CONF
  daemon nginx nginx -c "$dir/nginx.conf"
  daemon haproxy haproxy -db -f "$dir/haproxy.cfg"
  daemon agent env HOME="$dir/home" XDG_RUNTIME_DIR="$dir/home" RUST_LOG=warn "$BIN" \
    --local-api-address "127.0.0.1:$port" --legacy-api-endpoint "http://127.0.0.1:$nginx_port" --legacy-api-key key
  on_exit 'daemon_stop agent; daemon_stop haproxy; daemon_stop nginx'
  AGENT=$(cut -d' ' -f1 "$RUN/agent.pid")
  for one in "$nginx_port" "$haproxy_port" "$port"; do
    wait_for 10 curl -sf --noproxy '*' "http://127.0.0.1:$one/kib" || die "nothing answers on port $one"
  done
  row proxy-idle-mib "beside a legacy supervisor, resident" "$(mib "$(memory "$AGENT" | cut -d' ' -f1)")" MiB

  bench_proxy_load "$(cut -d' ' -f1 "$RUN/nginx.pid")" "$nginx_port" 1; direct_ms=$PROXY_MS
  for connections in 1 16; do
    bench_proxy_load "$(cut -d' ' -f1 "$RUN/haproxy.pid")" "$haproxy_port" "$connections"
    theirs=$PROXY_CPU theirs_ms=$PROXY_MS
    bench_proxy_load "$AGENT" "$port" "$connections"; ours_ms=$PROXY_MS
    if [ "$connections" = 1 ]; then
      row proxy-ms "1 KiB passed on, added at the median" \
        "$(awk -v a="$ours_ms" -v b="$direct_ms" 'BEGIN { printf "%.3f", a - b }')" ms \
        "haproxy $(awk -v a="$theirs_ms" -v b="$direct_ms" 'BEGIN { printf "%.3f", a - b }') ms"
    fi
    row "proxy-cpu-$connections" "CPU of one, times haproxy's ($connections)" "$(ratio "$PROXY_CPU" "$theirs")" "" \
      "$PROXY_CPU us, haproxy $theirs us"
  done

  high=$(python3 tests/bench/streams.py 127.0.0.1 "$port" /slow/gib 100 "$AGENT") || die "not every stream went on"
  row proxy-streams-mib "100 streams passed on, resident" "$(mib "$high")" MiB

  # A first one, so that what is measured is not what a connection needs at all.
  curl -sf --noproxy '*' -r 0-16777215 "http://127.0.0.1:$port/gib" >"$dir/part" || die "16 MiB did not come"
  echo 5 >"/proc/$AGENT/clear_refs"
  read -r rss _ < <(memory "$AGENT")
  curl -sf --noproxy '*' "http://127.0.0.1:$port/gib" | cmp - "$dir/www/gib" || die "1 GiB did not come as it is"
  read -r _ _ high _ < <(memory "$AGENT")
  row proxy-gib-kib "a body of 1 GiB passed on" "$((high - rss))" KiB "more than before"
  daemon_stop agent; daemon_stop haproxy; daemon_stop nginx
}

# bench_proxy_load PID PORT CONNECTIONS: PROXY_MS at the median, PROXY_CPU in microseconds of PID for one request.
bench_proxy_load() {
  local begun ended requests
  wrk -t1 -c"$3" -d1s "http://127.0.0.1:$2/kib" >/dev/null
  begun=$(cpu_ms "$1")
  wrk --latency -t1 -c"$3" -d5s "http://127.0.0.1:$2/kib" >"$RUN/wrk.out"
  ended=$(cpu_ms "$1")
  ! grep -E 'Non-2xx|Socket errors' "$RUN/wrk.out" || die "not every request was answered"
  requests=$(awk '/requests in/ { print $1 }' "$RUN/wrk.out")
  PROXY_MS=$(awk '$1 == "50%" { u = $2; sub(/[0-9.]+/, "", u); v = $2 + 0
    printf "%.4f", u == "us" ? v / 1000 : u == "s" ? v * 1000 : v }' "$RUN/wrk.out")
  PROXY_CPU=$(awk -v t="$((ended - begun))" -v n="$requests" 'BEGIN { printf "%.1f", t * 1000 / n }')
}

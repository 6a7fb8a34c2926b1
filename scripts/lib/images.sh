# Small images for tests, made of a static busybox and pushed to the test registry. Sourced after engine.sh and
# registry.sh. Takes busybox from the machine, else from Debian's package without installing that.
# Every layer carries the run's label, so that whatever an interrupted run leaves on a shared engine is found.

# busybox_path: a static busybox.
busybox_path() {
  local path dir=$CACHE/busybox
  for path in "$(command -v busybox)" "$dir/bin/busybox" "$dir/usr/bin/busybox"; do
    [ -x "$path" ] && ! ldd "$path" >/dev/null 2>&1 && echo "$path" && return
  done
  say "fetch" "Debian's package busybox-static, unpacked into $dir, not installed" >&2
  mkdir -p "$dir"
  (cd "$dir" && { apt_get download busybox-static || { apt_get update && apt_get download busybox-static; }; } &&
    dpkg -x busybox-static_*.deb . && rm -f busybox-static_*.deb) || die "could not fetch busybox-static"
  for path in "$dir/bin/busybox" "$dir/usr/bin/busybox"; do [ -x "$path" ] && echo "$path" && return; done
  die "no busybox in Debian's busybox-static"
}

# image_make NAME:TAG INSTRUCTIONS [FILE CONTENT]...: an image 127.0.0.1:PORT/NAME:TAG on the engine with busybox in it,
# the Dockerfile's instructions (CMD, ENV, ...) and files with the given content (or @FILE's).
image_make() {
  local ref=$HELIOS_TEST_REGISTRY/$1 dir root tool
  dir=$(mktemp -d "$RUN/image-XXXX") root=$dir/root
  printf 'FROM scratch\nLABEL %s\nCOPY root /\n%s\n' "$(image_label)" "$2" >"$dir/Dockerfile"
  shift 2
  mkdir -p "$root"/{bin,tmp,etc,data} && chmod 1777 "$root/tmp"
  cp "$(busybox_path)" "$root/bin/busybox"
  for tool in sh sleep httpd cat echo ls true false nc wget date kill id env; do ln -s busybox "$root/bin/$tool"; done
  while [ $# -gt 0 ]; do
    mkdir -p "$root/$(dirname "$1")"
    case $2 in @*) cp "${2#@}" "$root/$1" ;; *) printf '%s' "$2" >"$root/$1" ;; esac
    shift 2
  done
  tar -C "$dir" --owner=0 --group=0 --mtime=@0 --sort=name -cf "$dir.tar" .
  engine POST "/build?t=$ref&rm=1" -H 'Content-Type: application/x-tar' -T "$dir.tar" >"$RUN/build.log" ||
    { cat "$RUN/build.log" >&2; return 1; }
  ! grep '"error"' "$RUN/build.log" >&2 || return 1
  rm -rf "$dir" "$dir.tar"
}
# image_push NAME:TAG: to the test registry; prints the digest.
image_push() {
  local ref=$HELIOS_TEST_REGISTRY/$1
  engine POST "/images/${ref%:*}/push?tag=${ref##*:}" -H 'X-Registry-Auth: e30=' >"$RUN/push.log"
  ! grep -q '"error"' "$RUN/push.log" || { cat "$RUN/push.log" >&2; return 1; }
  grep -oE 'sha256:[0-9a-f]{64}' "$RUN/push.log" | tail -n 1
}
image_label() { echo "io.helios.run=${RUN##*/}"; }

# images_make: what the tests use: helios-test/busybox:1, on the registry and not on the engine.
images_make() {
  need jq:jq
  image_make helios-test/busybox:1 'CMD ["sh", "-c", "trap exit TERM; sleep infinity & wait"]'
  image_push helios-test/busybox:1 >/dev/null
  images_down
  export HELIOS_TEST_IMAGE=$HELIOS_TEST_REGISTRY/helios-test/busybox:1
  say "images" "$HELIOS_TEST_IMAGE"
}
# images_down: takes every image made here off the engine, under whatever name.
images_down() {
  local url filter id
  [ -f "$RUN/engine.url" ] || return 0
  url=$(cat "$RUN/engine.url")
  filter=$(jq -rn --arg l "$(image_label)" '{label: [$l]} | tojson | @uri')
  # Newest first, the layers below go with the last image above them; what is in use stays.
  for id in $(engine_at "$url" GET "/images/json?all=1&filters=$filter" -m 10 2>/dev/null | jq -r '.[].Id'); do
    engine_at "$url" DELETE "/images/$id?force=1" -m 30 >/dev/null 2>&1 || true
  done
}

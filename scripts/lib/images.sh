# Small images for tests, made of a static busybox and pushed to the test registry. Sourced after engine.sh and
# registry.sh. Takes busybox from the machine, else from Debian's package without installing that.

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

# image_make NAME:TAG CHANGES [FILE CONTENT]...: an image 127.0.0.1:PORT/NAME:TAG on the engine with busybox in it,
# Dockerfile instructions applied (one a line: CMD, ENV, EXPOSE, ...), and files with the given content.
image_make() {
  local ref=$HELIOS_TEST_REGISTRY/$1 root changes="" line; root=$(mktemp -d "$RUN/image-XXXX")
  mkdir -p "$root"/{bin,tmp,etc,data} && chmod 1777 "$root/tmp"
  cp "$(busybox_path)" "$root/bin/busybox"
  for line in sh sleep httpd cat echo ls true false nc wget date kill id env; do ln -s busybox "$root/bin/$line"; done
  while read -r line; do [ -z "$line" ] || changes+="&changes=$(jq -rn --arg l "$line" '$l | @uri')"; done <<<"$2"
  shift 2
  while [ $# -gt 0 ]; do mkdir -p "$root/$(dirname "$1")"; printf '%s' "$2" >"$root/$1"; shift 2; done
  tar -C "$root" --owner=0 --group=0 --mtime=@0 --sort=name -c . >"$root.tar"
  engine POST "/images/create?fromSrc=-&repo=${ref%:*}&tag=${ref##*:}$changes" \
    -H 'Content-Type: application/x-tar' -T "$root.tar" >"$RUN/import.log" || { cat "$RUN/import.log" >&2; return 1; }
  ! grep -q '"error"' "$RUN/import.log" || { cat "$RUN/import.log" >&2; return 1; }
  echo "$ref" >>"$RUN/images"
  rm -rf "$root" "$root.tar"
}
# image_push NAME:TAG: to the test registry; prints the digest.
image_push() {
  local ref=$HELIOS_TEST_REGISTRY/$1
  engine POST "/images/${ref%:*}/push?tag=${ref##*:}" -H 'X-Registry-Auth: e30=' >"$RUN/push.log"
  ! grep -q '"error"' "$RUN/push.log" || { cat "$RUN/push.log" >&2; return 1; }
  grep -oE 'sha256:[0-9a-f]{64}' "$RUN/push.log" | tail -n 1
}
# image_drop NAME:TAG|DIGEST-REFERENCE: takes it off the engine, so that it has to be pulled again.
image_drop() { engine_at "$(cat "$RUN/engine.url")" DELETE "/images/$1?force=1" >/dev/null 2>&1 || true; }

# images_make: what the tests use: helios-test/busybox:1, on the registry and not on the engine.
images_make() {
  need jq:jq
  image_make helios-test/busybox:1 'CMD ["sleep", "infinity"]'
  image_push helios-test/busybox:1 >/dev/null
  images_down
  export HELIOS_TEST_IMAGE=$HELIOS_TEST_REGISTRY/helios-test/busybox:1
  say "images" "$HELIOS_TEST_IMAGE"
}
# images_down: takes every image made here off the engine.
images_down() {
  local ref
  while read -r ref; do image_drop "$ref"; done 2>/dev/null <"$RUN/images" || true
}

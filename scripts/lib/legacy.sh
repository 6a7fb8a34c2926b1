# An image in which the stand-in for the legacy supervisor runs (tests/legacy): Debian's nodejs with node-sqlite3 and what
# they need, like the real one's, a shell, and nothing else. Sourced after engine.sh. Fetched once, unpacked and kept in the cache (200 MB);
# nothing is installed. The stand-in itself is put into its containers by whoever makes them.

LEGACY_IMAGE=helios-test/legacy:1

# legacy_image_up [ENGINE]...: imports it into these engines, else into the run's own; exports HELIOS_TEST_LEGACY_IMAGE.
legacy_image_up() {
  local url begun tar=$CACHE/legacy.tar change
  begun=$(now)
  legacy_system "$tar"
  change=$(jq -rn --arg l "LABEL $(image_label)" '$l | @uri')
  [ $# -gt 0 ] || set -- "$HELIOS_TEST_ENGINE"
  for url; do
    # Where modules are looked for is the directory that commands start in, as in the real one.
    engine_at "$url" POST "/images/create?fromSrc=-&repo=${LEGACY_IMAGE%:*}&tag=${LEGACY_IMAGE##*:}&changes=$change&changes=WORKDIR%20/usr/src/app" \
      -H 'Content-Type: application/x-tar' -T "$tar" >"$RUN/import.log" || { cat "$RUN/import.log" >&2; die "the import failed"; }
    ! grep '"error"' "$RUN/import.log" >&2 || die "the import failed"
  done
  export HELIOS_TEST_LEGACY_IMAGE=$LEGACY_IMAGE
  say "images" "$LEGACY_IMAGE, with Debian's nodejs and node-sqlite3, after $(since "$begun") s"
}

# legacy_system TAR: the file system, made once; one at a time.
legacy_system() {
  local dir=$CACHE/legacy apt deb
  exec 9>"$CACHE/lock"; flock 9
  if [ ! -f "$1" ]; then
    say "fetch" "Debian's nodejs, node-sqlite3 and what they need, unpacked into $1, not installed (once)"
    rm -rf "$dir" && mkdir -p "$dir"/{debs/partial,root}
    # As if nothing were installed: every package that they need, none that this machine has by chance.
    apt=(-o Dir::State::status=/dev/null -o "Dir::Cache::archives=$dir/debs" -o APT::Sandbox::User=root -o Debug::NoLocking=1)
    apt_get "${apt[@]}" --no-install-recommends -d -y install nodejs node-sqlite3 dash ||
      { apt_get update && apt_get "${apt[@]}" --no-install-recommends -d -y install nodejs node-sqlite3 dash; } ||
      die "could not fetch nodejs and node-sqlite3"
    # One place for programs and libraries, whatever a package calls it.
    (cd "$dir/root" && mkdir -p usr/{bin,sbin,lib,lib64,src/app/node_modules} data etc tmp run && chmod 1777 tmp &&
      for deb in bin sbin lib lib64; do ln -s "usr/$deb" "$deb"; done)
    for deb in "$dir"/debs/*.deb; do
      dpkg-deb --fsys-tarfile "$deb" | tar -x -C "$dir/root" --keep-directory-symlink || die "cannot unpack $deb"
    done
    ln -sf dash "$dir/root/usr/bin/sh"
    rm -rf "$dir"/root/usr/share/{doc,man,locale,lintian,bash-completion}
    legacy_modules "$dir/root"
    tar -C "$dir/root" --owner=0 --group=0 --mtime=@0 --sort=name -cf "$1.part" . && mv "$1.part" "$1"
    rm -rf "$dir"
  fi
  exec 9>&-
}
# legacy_modules ROOT: the database's module where a program of the supervisor finds it, which knows nothing of Debian's places.
legacy_modules() {
  local name found
  for name in sqlite3 bindings file-uri-to-path; do
    found=$(cd "$1" && find usr/share/nodejs usr/lib -type d -path "*/nodejs/$name" | head -n 1)
    [ -z "$found" ] || ln -s "/$found" "$1/usr/src/app/node_modules/$name"
  done
  [ -e "$1/usr/src/app/node_modules/sqlite3" ] || [ -L "$1/usr/src/app/node_modules/sqlite3" ] || die "node-sqlite3 has no module sqlite3"
}

# legacy_up BINARY NAME CONTROL-PORT SETTINGS: the stand-in in a container of that name, in the host's network; the settings
# are a JSON object. Files in $RUN/legacy.
legacy_up() {
  local dir=$RUN/legacy
  mkdir -p "$dir/data"
  cp "$1" "$dir/legacy"
  cp "$ROOT/tests/legacy/settings.js" "$dir"
  legacy_down
  jq -n --arg image "$LEGACY_IMAGE" --arg dir "$dir" --arg control "127.0.0.1:$3" --argjson settings "$4" '
    {Image: $image, Cmd: ["./legacy", "--settings-command", "node settings.js", "--control", $control], StopSignal: "SIGKILL",
      Env: ["LEGACY_SETTINGS=" + ($settings | tojson)], HostConfig: {NetworkMode: "host", Binds: [
        $dir + "/legacy:/usr/src/app/legacy:ro", $dir + "/settings.js:/usr/src/app/settings.js:ro", $dir + "/data:/data"]}}' |
    engine POST "/containers/create?name=$2" -H 'Content-Type: application/json' -d @- >/dev/null
  echo "$2" >"$dir/name"
  engine POST "/containers/$2/start"
}
legacy_down() { [ ! -f "$RUN/legacy/name" ] || engine DELETE "/containers/$(cat "$RUN/legacy/name")?force=1&v=1" >/dev/null 2>&1 || true; }
# legacy_node PROGRAM: runs it in the stand-in's container; prints what it prints.
legacy_node() {
  local id name
  name=$(cat "$RUN/legacy/name")
  id=$(jq -n --arg p "$1" '{AttachStdout: true, Tty: true, Cmd: ["node", "-e", $p]}' |
    engine POST "/containers/$name/exec" -H 'Content-Type: application/json' -d @- | jq -r .Id)
  engine POST "/exec/$id/start" -H 'Content-Type: application/json' -d '{"Tty": true}' | tr -d '\r'
}

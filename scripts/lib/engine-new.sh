# A second, newer engine (Docker 26.1 of Debian trixie) beside the first. Sourced after engine.sh.
# Exports HELIOS_TEST_ENGINE_NEW (unix:// URL). Needs root; installs debootstrap once and keeps the unpacked system
# in the cache (about 400 MB, 30 s). Its mounts are in a mount namespace of their own and go with it.

engine_new_up() {
  local dir=$CACHE/trixie begun
  [ "$(id -u)" = 0 ] || die "only root can start a second engine"
  need ip:iproute2 unshare:util-linux
  engine_new_system "$dir"
  begun=$(now)
  export HELIOS_TEST_ENGINE_NEW=unix://$RUN/engine_new.sock
  mkdir -p "$RUN/engine_new"
  bridge_add "$RUN/bridge_new"
  daemon engine_new unshare --mount --propagation private bash -c "$ENGINE_NEW_INSIDE" inside \
    "$dir" "${TMPDIR:-/tmp}" $(engine_flags engine_new "$RUN/bridge_new")
  wait_for 30 engine_at "$HELIOS_TEST_ENGINE_NEW" GET /_ping -m 2 ||
    { tail -n 20 "$RUN/engine_new.log" >&2; die "the second dockerd did not start"; }
  say "engine" "$(HELIOS_TEST_ENGINE=$HELIOS_TEST_ENGINE_NEW engine_name), second, ready after $(since "$begun") s"
}
engine_new_down() { private_engine_down engine_new "$RUN/bridge_new"; }

# The temp directory is the same inside, so that sockets, data and bind mounts below it have one path on both sides.
# A mere chroot would not do: the namespace's root stays the host's then, and an exec (a health check) lands there.
ENGINE_NEW_INSIDE='
set -e
dir=$1 tmp=$2; shift 2
mount --bind "$dir" "$dir"
mount -t proc proc "$dir/proc"
mount --rbind /sys "$dir/sys"
mount --rbind /dev "$dir/dev"
mount -t tmpfs tmpfs "$dir/run"
mkdir -p "$dir$tmp"
mount --rbind "$tmp" "$dir$tmp"
cd "$dir"
pivot_root . .
umount -l .
exec chroot . dockerd "$@"'

# engine_new_system DIR: the unpacked system, made once; one at a time.
engine_new_system() {
  local dir=$1 mirror begun
  mkdir -p "$CACHE"
  exec 9>"$CACHE/lock"; flock 9
  if [ ! -x "$dir/usr/sbin/dockerd" ]; then
    need debootstrap:debootstrap
    mirror=$(apt_mirror) && [ -n "$mirror" ] || die "no Debian mirror in apt's configuration"
    begun=$(now)
    say "fetch" "debootstrap trixie with docker.io into $dir (once)"
    rm -rf --one-file-system "$dir.part"
    debootstrap --variant=minbase --include=docker.io,iptables,ca-certificates trixie "$dir.part" "$mirror" \
      >"$RUN/debootstrap.log" 2>&1 || { tail -n 20 "$RUN/debootstrap.log" >&2; die "debootstrap failed"; }
    rm -rf "$dir.part"/var/cache/apt/archives/*.deb
    mv "$dir.part" "$dir"
    say "fetch" "done after $(since "$begun") s"
  fi
  exec 9>&-
}

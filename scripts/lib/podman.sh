# Podman with its service on a socket of its own. Sourced after engine.sh and registry.sh.
# Exports HELIOS_TEST_PODMAN (its unix:// URL). Needs root; installs podman when it is missing.

podman_up() {
  local begun dir=$RUN/podman
  [ "$(id -u)" = 0 ] || die "only root can start Podman with networks of its own"
  need podman:podman
  begun=$(now)
  mkdir -p "$dir"
  printf '[[registry]]\nlocation = "%s"\ninsecure = true\n' "$HELIOS_TEST_REGISTRY" >"$dir/registries.conf"
  export HELIOS_TEST_PODMAN=unix://$RUN/podman.sock
  daemon podman env CONTAINERS_REGISTRIES_CONF="$dir/registries.conf" \
    podman $(podman_places) system service --time=0 "$HELIOS_TEST_PODMAN"
  wait_for 30 engine_at "$HELIOS_TEST_PODMAN" GET /_ping -m 2 ||
    { tail -n 20 "$RUN/podman.log" >&2; die "the Podman service did not start"; }
  say "podman" "$(HELIOS_TEST_ENGINE=$HELIOS_TEST_PODMAN engine_name), ready after $(since "$begun") s"
}
podman_places() {
  printf '%s\n' --root "$RUN/podman/root" --runroot "$RUN/podman/run" --network-config-dir "$RUN/podman/networks"
}
podman_down() {
  [ -d "$RUN/podman" ] || return 0
  podman $(podman_places) rm --all --force --time 0 >/dev/null 2>&1
  podman $(podman_places) network prune --force >/dev/null 2>&1
  daemon_stop podman 10
  awk -v d="$RUN/podman/" 'index($5, d) == 1 { print $5 }' /proc/self/mountinfo | sort -r | xargs -r -n1 umount -l 2>/dev/null
  rm -rf --one-file-system "$RUN/podman" "$RUN/podman.sock"
}

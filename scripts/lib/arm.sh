# The tests on ARM: built as in scripts/build, run under Debian's qemu-user-static. Sourced after common.sh and static.sh.
# Nothing of the machine is changed: a kernel that has no handler for foreign programs gets one in a namespace of the run.

ARM_TARGETS=(armv7-unknown-linux-musleabihf aarch64-unknown-linux-musl)
# Of the outside tests, those that need neither an engine nor a registry (both of process::issue_8 ask an engine). Left
# out: what counts memory, which would be the emulator's.
ARM_OUTSIDE=(api:: power:: register:: process:: quick_start:: units:: an_agent_does_its_main_job_on_the_fake_engine
  --skip process::issue_8)
# Tests that start programs run one at a time: qemu-user (7.2) forks without regard to locks of its own C library, and when
# another thread holds one at that moment the child waits for ever for it, before it is the program that it should become.
# Of the unit tests those of the updater's script do.
ARM_FORKING=host::updater

# arm_tests TARGET [FILTER]...: builds and runs all tests that need no engine.
arm_tests() {
  local target=$1 begun name outside=("${@:2}"); shift
  begun=$(now)
  arm_build "$target"
  arm_handler "$(arm_made helios bin)"
  say "build" "$target, after $(since "$begun") s"
  # Few histories: each takes many times as long here, and what they look for is no matter of the machine.
  export HELIOS_SEEDS=${HELIOS_SEEDS:-5}
  if [ $# = 0 ]; then
    tests "$target unit" "${ARM[@]}" "$(arm_made helios lib)" --skip "$ARM_FORKING"
    tests "$target replay" "${ARM[@]}" "$(arm_made remote test)" replay::
  fi
  export RUST_TEST_THREADS=1
  tests "$target unit, one by one" "${ARM[@]}" "$(arm_made helios lib)" "${@:-$ARM_FORKING}"
  tests "$target remote" "${ARM[@]}" "$(arm_made remote test)" "${@:---skip=replay::}"
  for name in fixtures beside; do tests "$target $name" "${ARM[@]}" "$(arm_made "$name" test)" "$@"; done
  [ $# -gt 0 ] || outside=("${ARM_OUTSIDE[@]}")
  tests "$target outside" "${ARM[@]}" "$(arm_made it test)" "${outside[@]}"
  unset RUST_TEST_THREADS
}

# arm_build TARGET: the programs and tests, a little optimized, which is quicker in all; what cargo made is in $RUN/arm.json.
arm_build() (
  std_up "$1"
  zig_up
  # Thumb-2 as in the release. Panics unwind, since the tests catch them.
  case $1 in armv7-*) thumb=" -C target-feature=+thumb-mode" ;; *) thumb= ;; esac
  export RUSTC_BOOTSTRAP=1 CARGO_PROFILE_DEV_DEBUG=0 CARGO_PROFILE_DEV_OPT_LEVEL=1
  export RUSTFLAGS="-C relocation-model=static$thumb${STD_FLAGS:+ -C link-self-contained=no}"
  [ ${#STD_FLAGS[@]} = 0 ] || STD_FLAGS=(-Zbuild-std=std,panic_unwind)
  nice cargo-zigbuild zigbuild --locked "${STD_FLAGS[@]}" --target "$1" --bins --examples --tests \
    --message-format json-render-diagnostics </dev/null >"$RUN/arm.json" || die "the tests for $1 do not build"
)
# arm_made NAME KIND: the path of what cargo made of a target: the program, or the tests in it.
arm_made() {
  jq -rn --arg name "$1" --arg kind "$2" \
    '[inputs | select(.executable and .target.name == $name and .target.kind == [$kind] and .profile.test == ($kind != "bin"))][0].executable' \
    "$RUN/arm.json"
}

# arm_handler PROGRAM: ARM is what to put before a command for the kernel to run programs like this one.
arm_handler() {
  local conf
  # Nothing that hangs holds up the rest.
  ARM=(nice timeout 900)
  ! "$1" --version >/dev/null 2>&1 || return 0
  case $1 in *aarch64*) conf=qemu-aarch64 ;; *) conf=qemu-arm ;; esac
  ARM+=(unshare --user --map-root-user --mount bash -c '
    mount -t binfmt_misc none /proc/sys/fs/binfmt_misc && cat "$0" >/proc/sys/fs/binfmt_misc/register && exec "$@"'
    "/usr/lib/binfmt.d/$conf.conf")
  "${ARM[@]}" "$1" --version >/dev/null ||
    die "the kernel runs no $1: before Linux 6.7 the handler must be there for all (systemctl restart systemd-binfmt)"
}

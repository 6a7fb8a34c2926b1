# What a static build needs beside the compiler: std's sources, and zig as C compiler and linker for every target.
# Sourced after common.sh. Writes into $CACHE and, std's sources only, into the toolchain.

# The boards: PCs, 64-bit ARM, 32-bit ARM, and the oldest with hardware floating point (ARMv6).
TARGETS=(x86_64-unknown-linux-musl aarch64-unknown-linux-musl armv7-unknown-linux-musleabihf arm-unknown-linux-musleabihf)

# This zig still links musl's own malloc. Later ones bring theirs, which joins nothing that is freed and keeps it apart by
# thread: an agent with it grew by 2 KiB with each release (scripts/bench churn).
ZIG=0.15.2
ZIG_PACKAGES="ziglang==$ZIG cargo-zigbuild==0.24.0"

# std_up TARGET: STD_FLAGS are the cargo flags with which std for TARGET can be had. Built from its sources
# everywhere, so that the binary is the same on every machine; a ready-made std is the last resort.
std_up() {
  local sysroot; sysroot=$(rustc --print sysroot)
  STD_FLAGS=(-Zbuild-std=std,panic_abort -Zbuild-std-features=optimize_for_size)
  [ -f "$sysroot/lib/rustlib/src/rust/library/std/Cargo.toml" ] && return
  say "std" "rustup component add rust-src"
  timeout 300 rustup component add rust-src >/dev/null 2>&1 && return
  std_from_debian "$sysroot" && return
  STD_FLAGS=()
  std_installed "$1" && return
  timeout 300 rustup target add "$1" >/dev/null 2>&1 && return
  die "no std for $1: neither rustup nor Debian has rust-src of $(rustc --version)"
}
std_installed() { ls "$(rustc --print target-libdir --target "$1")"/libstd-*.rlib >/dev/null 2>&1; }

# std_from_debian SYSROOT: the package of exactly this compiler, by an apt state of its own, unpacked.
std_from_debian() {
  local release suite version mirror dir=$CACHE/rust-src
  command -v apt-get >/dev/null || return 1
  release=$(rustc -vV | sed -n 's/^release: //p')
  mirror=$(apt_mirror) && [ -n "$mirror" ] || return 1
  mkdir -p "$dir/lists/partial" "$dir/archives/partial"
  for suite in trixie-backports sid; do
    say "std" "rustup has none here; looking for rust-src $release in Debian's $suite"
    echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror $suite main" >"$dir/sources.list"
    apt_private update >>"$dir/apt.log" 2>&1 || continue
    version=$(apt_private_cache madison rust-src | awk -v r="$release+" 'index($3, r) == 1 { print $3; exit }')
    [ -n "$version" ] && break
  done
  [ -n "${version:-}" ] || return 1
  (cd "$dir" && rm -rf ./*.deb usr && apt_private download "rust-src=$version" >>apt.log 2>&1 && dpkg -x ./*.deb .) ||
    { tail -n 5 "$dir/apt.log" >&2; return 1; }
  mkdir -p "$1/lib/rustlib/src/rust" 2>/dev/null && [ -w "$1/lib/rustlib/src/rust" ] ||
    die "std's sources are in $dir, but the toolchain $1 cannot be written; copy them there as lib/rustlib/src/rust/library"
  cp -r "$dir"/usr/src/rustc-*/library "$1/lib/rustlib/src/rust/library"
  rm -rf "$dir"/*.deb "$dir/usr"
  say "std" "rust-src $version, put into the toolchain"
}
apt_private() { apt-get -qq "${APT_PRIVATE[@]}" "$@" </dev/null; }
apt_private_cache() { apt-cache "${APT_PRIVATE[@]}" "$@"; }
APT_PRIVATE=(-o "Dir::Etc::SourceList=$CACHE/rust-src/sources.list" -o Dir::Etc::SourceParts=-
  -o "Dir::State::Lists=$CACHE/rust-src/lists" -o "Dir::Cache=$CACHE/rust-src" -o APT::Sandbox::User=root)

# zig_up: cargo-zigbuild on the PATH, from the machine or in a Python environment of its own.
zig_up() {
  local dir=$CACHE/zig-$ZIG
  cargo-zigbuild --version >/dev/null 2>&1 && zig_is_good && return
  if [ ! -x "$dir/bin/cargo-zigbuild" ]; then
    python_venv_up
    say "zig" "pip install $ZIG_PACKAGES into $dir (once)"
    rm -rf "$dir"
    python3 -m venv "$dir" && "$dir/bin/pip" -q install $ZIG_PACKAGES >&2 || die "could not install cargo-zigbuild"
  fi
  PATH=$dir/bin:$PATH
  # Before any other zig of the machine.
  CARGO_ZIGBUILD_ZIG_PATH=$(echo "$dir"/lib/python3*/site-packages/ziglang/zig)
  export CARGO_ZIGBUILD_ZIG_PATH
}
# zig_is_good: whether the machine's own zig links musl's malloc.
zig_is_good() {
  local libs
  libs=$({ zig env || python3 -m ziglang env; } 2>/dev/null | sed -n 's/.*lib_dir"\{0,1\} *[:=] *"\([^"]*\)".*/\1/p')
  [ -d "$libs/libc/musl/src/malloc/mallocng" ] ||
    { say "zig" "the machine's own has no malloc of musl (it is newer than $ZIG, or is not found): not used"; return 1; }
}
python_venv_up() {
  need python3:python3
  python3 -c 'import ensurepip, venv' 2>/dev/null && return
  need python3-venv-is-missing:python3-venv
}

# lean_up TARGET: LEAN_FLAGS for rustc, and CFLAGS for the target, that leave out what a stripped agent has no use for.
lean_up() {
  local dir=$CACHE/lean object layout sum from zig=(zig) abi rust_thumb= c_thumb= \
    outline=" -C llvm-args=-enable-machine-outliner=always -C llvm-args=-machine-outliner-reruns=3"
  mkdir -p "$dir"
  command -v zig >/dev/null || zig=(python3 -m ziglang)
  [ -z "${CARGO_ZIGBUILD_ZIG_PATH:-}" ] || zig=("$CARGO_ZIGBUILD_ZIG_PATH")
  case $1 in
    # Not on 32-bit ARM: an outlined function that calls another loses the address that it should return to (an agent for
    # ARMv7 ran in circles, one for ARMv6 ended as it started its first thread). Thumb-2, which each ARMv7 has, takes a
    # quarter less than ARM instructions do.
    armv7-*) abi="arm-linux-musleabihf -mcpu=generic+v7a" rust_thumb=" -C target-feature=+thumb-mode" c_thumb=" -mthumb" outline= ;;
    arm-*) abi="arm-linux-musleabihf -mcpu=arm1176jzf_s" outline= ;;
    *) abi=${1%%-*}-linux-musl ;;
  esac
  # By what is in them, which cargo does not look at.
  sum=$(cat "$ROOT"/scripts/lib/{lean.[ch],later.ld} | sha256sum | cut -c1-8)
  object=$dir/$1-$sum.o layout=$dir/later-$sum.ld
  cp "$ROOT/scripts/lib/later.ld" "$layout"
  # shellcheck disable=SC2086
  "${zig[@]}" cc -target $abi -Os$c_thumb -ffunction-sections -fno-asynchronous-unwind-tables -c "$ROOT/scripts/lib/lean.c" -o "$object" ||
    die "zig does not compile scripts/lib/lean.c for $1"
  # The outliner makes functions of what the machine code has more than once, and again of what it made: 3 %.
  # A jump table may have a quarter of holes, not 60 %: eight bytes each.
  LEAN_FLAGS="-Z pre-link-args=$object -C link-arg=-Wl,-T,$layout -C llvm-args=-optsize-jump-table-density=75$outline$rust_thumb"
  # A panic's location is a path of the crate, not of the machine that built it.
  cargo fetch -q --target "$1" </dev/null >&2 || true
  for from in "${CARGO_HOME:-$HOME/.cargo}"/registry/src/*/; do
    LEAN_FLAGS+=" --remap-path-prefix=${from%/}=."
  done
  LEAN_FLAGS+=" --remap-path-prefix=$(rustc --print sysroot)/lib/rustlib/src/rust/library=std"
  export "CFLAGS_${1//-/_}=-fno-asynchronous-unwind-tables$c_thumb -DLEAN=0x$sum -include $ROOT/scripts/lib/lean.h"
}

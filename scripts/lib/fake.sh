# Fake engines (tests/engine), one or many. Sourced after engine.sh. They hold nothing outside of $RUN.

# fake_up BINARY: FAKE is the URL of one.
fake_up() {
  FAKE=unix://$RUN/fake.sock
  daemon fake "$1" --socket "$RUN/fake.sock"
  wait_for 10 engine_at "$FAKE" GET /_ping || { tail -n 20 "$RUN/fake.log" >&2; die "the fake engine did not start"; }
  on_exit fake_down
}
# fakes_up BINARY DIR COUNT: many, as DIR/0.sock and so on.
fakes_up() {
  daemon fake "$1" --sockets "$2" --count "$3"
  wait_for 10 engine_at "unix://$2/$(($3 - 1)).sock" GET /_ping || { tail -n 20 "$RUN/fake.log" >&2; die "the fake engines did not start"; }
  on_exit fake_down
}
fake_down() { daemon_stop fake 5; }

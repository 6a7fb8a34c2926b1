//! The development backend.
fn main() {}

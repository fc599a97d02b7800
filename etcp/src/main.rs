//! The EternalTCP program.

fn main() {}

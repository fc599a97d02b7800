//! An empty library: every package needs a library or a program, and this one only has benchmarks.

//! eternaltcp-sim

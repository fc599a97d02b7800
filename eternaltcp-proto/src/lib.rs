//! eternaltcp-proto

//! Admission: which clients are admitted, and what the others can do.

mod attach;
mod changes;
mod ghosts;
mod input;
mod keys;
mod limits;
mod memory;
mod nodes;
mod one_key;
mod proxy_from;
mod rewrites;
mod standby;
mod strict_modes;
mod targets;

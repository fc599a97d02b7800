//! Who is let in, and what those who are not can do.

mod attach;
mod changes;
mod ghosts;
mod input;
mod keys;
mod limits;
mod one_key;
mod rewrites;
mod standby;
mod strict_modes;
mod targets;

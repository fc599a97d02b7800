//! What becomes of a client on real paths: slow ones that live, ones that die
//! or fall silent for a while, servers that stand still, sleep, and crowds.

mod crowds;
mod dying;
mod living;
mod races;
mod silent;
mod worlds;

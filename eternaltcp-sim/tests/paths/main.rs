//! A client on real paths: slow ones that work, ones that die or fall silent for a while, stopped
//! servers, sleep, and crowds.

mod crowds;
mod dying;
mod living;
mod quiet;
mod races;
mod silent;
mod worlds;

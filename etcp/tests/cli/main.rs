//! The command line as a user meets it: help, first contact, keys, installation, logs and the demo.

mod demo;
mod first_contact;
mod install;
mod keygen;
mod log_reader;
mod newcomer;

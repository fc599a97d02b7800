//! The command line as one meets it: help, first contact, keys, installation, logs and the demo.

mod demo;
mod first_contact;
mod install;
mod keygen;
mod log_reader;
mod newcomer;

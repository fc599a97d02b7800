//! Users' and operators' work with the programs, on this machine's loopback.

mod agent;
mod commands;
mod config;
mod control;
mod doctor;
mod drain;
mod groups;
mod hooks;
mod host_keys;
mod key_command;
mod keys;
mod metrics;
mod proxy;
mod record_ends;
mod records;
mod reload;
mod reload_remote;
mod remote;
mod send_proxy;
mod servers;
mod signals;
mod socks_answers;
mod stdio;
mod surroundings;
mod trust;
mod unix;

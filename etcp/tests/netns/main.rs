//! Real programs through both proxies, while their client moves between networks. Each test has its
//! own network namespaces.

mod agent_roam;
mod congestion;
mod curl;
mod demo;
mod fleet;
mod half_close;
mod ipv6;
mod programs;
mod psql;
mod quiet;
mod roam;
mod run;
mod run_program;
mod scp;
mod socks;
mod ssh;
mod ssh_copies;
mod ssh_title;
mod status;
mod telnet;
mod transparent;
mod via_ssh;

//! The calls to the operating system that no other library provides: changes of networks, sleep,
//! the kernel's figures of a connection, and a few calls that need `unsafe` code.
//!
//! All `unsafe` code of the library and of the program is in this crate, behind safe functions.
//! Each block states why it is sound.
//!
//! A platform is one module that provides these items. No other crate makes system-specific calls:
//!
//! | item | what it does |
//! |---|---|
//! | [`NetworkWatch`] | reports that links, addresses or routes changed, never which |
//! | [`SleepWatch`] | reports that the machine slept, soon after it woke |
//! | [`carrier_info`] | returns the kernel's figures of a connection |
//! | [`bind_to_device`], [`interface_index`] | make a socket use one interface, and number an interface |
//! | [`free_receive_buffer`], [`set_pacing`], [`set_transparent`] | set options of sockets |
//! | [`unsent`] | returns how much the other end's kernel has not taken |
//! | [`mptcp_available`] | reports whether this system makes MPTCP sockets now |
//! | [`has_route`] | reports whether a route leads to an address over one interface |
//! | [`has_writer`] | reports whether somebody has a file open for writing |
//! | [`readable`] | has tokio say when there is something to read, or to accept |
//! | [`memory_limit`], [`release_memory`], [`hide_memory`] | bound, return and protect memory |
//! | [`was_ignored`], [`is_stdout_closed`], [`give_back`] | report what this process was started with, and pass it on |
//! | [`wait_for_children`] | undoes that SIGCHLD was ignored at the start |
//! | [`survive_file_size_limit`] | makes a write beyond that limit an error |
//! | [`write_from_background`] | keeps a terminal from stopping a thread that writes to it |
//! | [`session`], [`process_group`] | tell the session and the group of this process, also in a namespace without their leaders |
//! | [`unshare`] | moves the calling thread into namespaces of its own |
//!
//! Linux alone has what outlives a process:
//!
//! | item | what it does |
//! |---|---|
//! | [`Words`], [`Blocks`] | memory that outlives the process: for tables, and for payload |
//! | [`NotedCall`] | reads and writes whose result the kernel records there |
//! | [`cookie`] | tells a socket from every other one |
//! | [`read_progress`], [`moved_bytes`] | return how much of a connection was received, read and written |
//! | [`spawn_worker`] | starts a process that shares the descriptors of this one |
//! | [`spawn_successor`], [`end_with`], [`end_with_parent`] | start a program that takes over the descriptors of this one, and let processes end with another one |
//! | [`BlockedSignals`], [`restore_blocked`] | wait for signals in a process that has no runtime, and undo that in its workers |
//! | [`stop_process`] | stops this process until it is continued |
//! | [`set_title`] | changes what `ps` shows for this process |
//!
//! [`unix`] connects to Unix sockets and needs no platform.
//!
//! Linux is the main platform. Other Unix systems have the same items, with less behind some of
//! them: changes of networks are found by polling, and unsupported calls return errors.

#![allow(unsafe_code, reason = "this crate holds the unsafe code, so that no other has any")]

#[cfg(not(unix))]
compile_error!("EternalTCP needs a Unix system");

#[cfg(not(target_os = "linux"))]
mod elsewhere;
mod group;
#[cfg(target_os = "linux")]
mod linux;
mod ready;
mod tcp_info;
mod terminal;
#[cfg(target_os = "linux")]
#[cfg(any(test, feature = "testnet"))]
#[doc(hidden)]
pub mod testnet;
#[cfg(any(test, feature = "testnet"))]
#[doc(hidden)]
pub mod testport;
pub mod unix;

#[cfg(not(target_os = "linux"))]
use elsewhere as system;
#[cfg(target_os = "linux")]
use linux as system;

pub use group::{process_group, session};
#[cfg(target_os = "linux")]
pub use linux::{
    Block, BlockedSignals, Blocks, Ended, Executable, Holding, Inherited, NewProgram, NotedCall,
    PANICKED, Part, ReceivedSignal, Successor, Words, Worker, cookie, end_with, end_with_parent,
    moved_bytes, read_progress, reap_any, restore_blocked, set_title, spawn_successor,
    spawn_worker, stop_process, unshare,
};
pub use ready::readable;
pub use system::{
    NetworkWatch, SleepWatch, accept, bind_to_device, carrier_info, free_receive_buffer, give_back,
    has_route, has_writer, hide_memory, interface_index, is_mptcp_socket, is_stdout_closed,
    limit_silence, limit_unsent, memory_limit, mptcp_available, mptcp_socket, original_destination,
    release_memory, send_quietly, set_congestion, set_pacing, set_transparent,
    survive_file_size_limit, unsent, wait_for_children, was_ignored,
};
pub use tcp_info::{MovedBytes, ReadProgress, TcpInfo};
pub use terminal::write_from_background;

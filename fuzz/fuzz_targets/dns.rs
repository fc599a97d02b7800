#![no_main]

//! The DNS messages that `etcp run` reads. They are part of the program, not of the library, so
//! its files are taken as they are.

#[path = "../../etcp/src/run/dns/body.rs"]
mod body;
#[allow(dead_code)]
#[path = "../../etcp/src/run/dns/message.rs"]
mod message;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let _ = body::dns(data);
});

#![no_main]

//! The DNS messages that `etcp run` reads: they are the program's, and so its file is
//! taken as it is.

#[allow(dead_code)]
#[path = "../../etcp/src/run/dns/message.rs"]
mod message;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let (size, rest) = data.split_first().unwrap_or((&0, &[]));
    let (query, response) = rest.split_at(usize::from(*size).min(rest.len()));
    let _ = (message::addresses(response), message::failure(query));
    let _ = message::fit(query, response.to_vec());
});

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let _ = eternaltcp_sim::bodies::tunnel(eternaltcp_proto::Side::Client, data);
});

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let _ = eternaltcp_sim::hostile::peer(eternaltcp_proto::Side::Server, data);
});

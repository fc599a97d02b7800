//! curl of 200 MB from nginx through `-L`, while the client moves.

use etcp_testkit::folder::{length, sha256};
use etcp_testkit::nginx::start_nginx;
use etcp_testkit::transfer::{FILE_LENGTH, strike_on_the_way};
use etcp_testkit::wait::PATIENCE;
use etcp_testkit::{
    IpFamily, Launch, NetworkFault, ProxyPair, RunAs, Sproxy, TestFolder, TestWorld, skip,
};

const SERVER: &str = "127.0.0.1:8080";

#[test]
fn curl_from_nginx_arrives_whole_while_the_client_moves() {
    if !skip::can_run("netns::curl", &["nginx", "curl", "sha256sum"]) {
        return;
    }
    let (world, folder) = (TestWorld::new(), TestFolder::new());
    let original = folder.random_file("original", FILE_LENGTH, RunAs::Nobody);
    let copy = folder.join("copy");
    let _nginx = start_nginx(&world.server, &folder, &format!("listen {SERVER};"), SERVER);
    let sproxy = Sproxy::start(&world, &folder, IpFamily::V4, SERVER, &[SERVER]);
    let _pair = ProxyPair::start(&world, &folder, sproxy, &[&format!("9000:{SERVER}")]);

    // The rate is 10 MB/s, so that the faults fall inside the copy.
    let mut curl = Launch::new("curl", "curl")
        .args(["-sS", "--fail", "--no-buffer", "--limit-rate", "10M", "-o"])
        .arg(&copy)
        .arg("http://127.0.0.1:9000/original")
        .start(&world.client, &folder);
    strike_on_the_way(&world, &NetworkFault::CYCLE, || (curl.is_running(), length(&copy)));
    assert!(curl.wait(2 * PATIENCE).success(), "curl is content");
    assert_eq!(sha256(&copy), sha256(&original), "every byte is right");
}

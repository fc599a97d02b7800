//! The treatment of real packets by a link.

mod support;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use support::link::EmulatedLink;
use support::ping::Pinger;
use support::{PATIENCE, skip};

#[test]
fn a_ping_takes_the_delay_of_both_directions() {
    if !skip::can_run("a_ping_takes_the_delay_of_both_directions") {
        return;
    }
    let link = EmulatedLink::start("delay", &["up:delay=15ms", "down:delay=25ms"]);
    for pinger in [Pinger::v4(&link), Pinger::v6(&link)] {
        let shortest = (0..20).map(|number| pinger.ping(number)).min().expect("some pings");
        assert!(shortest >= Duration::from_millis(40), "{shortest:?}");
        assert!(shortest < Duration::from_millis(200), "{shortest:?}");
    }
}

#[test]
fn silence_one_way_ends_when_it_is_lifted() {
    if !skip::can_run("silence_one_way_ends_when_it_is_lifted") {
        return;
    }
    let link = EmulatedLink::start("silence", &["delay=1ms"]);
    let pinger = Pinger::v4(&link);
    pinger.ping(0);
    link.set(&["up:silence=on"]);
    send_large(&link, &pinger, 5);
    assert!(pinger.is_right_empty());
    assert!(link.count("up", "silenced") >= 5);
    pinger.send_down(6, 56);
    assert_eq!(pinger.receive_down(), 6);
    link.set(&["up:silence=off"]);
    // Datagrams sent in silence are lost: the next one is the first of these.
    pinger.ping(7);
}

#[test]
fn silence_takes_what_is_on_the_way() {
    if !skip::can_run("silence_takes_what_is_on_the_way") {
        return;
    }
    let link = EmulatedLink::start("flight", &["up:delay=60s"]);
    let pinger = Pinger::v4(&link);
    send_large(&link, &pinger, 1);
    link.set(&["silence=on"]);
    assert!(link.count("up", "silenced") >= 1);
    link.set(&["silence=off", "delay=0ms"]);
    pinger.ping(2);
}

#[test]
fn a_loss_of_all_packets_loses_all() {
    if !skip::can_run("a_loss_of_all_packets_loses_all") {
        return;
    }
    let link = EmulatedLink::start("loss", &["up:loss=100%"]);
    let pinger = Pinger::v4(&link);
    send_large(&link, &pinger, 20);
    assert!(pinger.is_right_empty());
    assert_eq!(link.count("up", "delivered"), 0);
    assert!(link.count("up", "lost") >= 20);
    link.set(&["loss=0%"]);
    pinger.ping(21);
}

#[test]
fn a_hole_lets_small_packets_through() {
    if !skip::can_run("a_hole_lets_small_packets_through") {
        return;
    }
    let link = EmulatedLink::start("hole", &["up:hole=1300"]);
    let pinger = Pinger::v4(&link);
    // An IPv4 and a UDP header are 28 bytes.
    pinger.send_up(1, 1300 - 27);
    pinger.send_up(2, 1300 - 28);
    assert_eq!(pinger.receive_up(), 2);
    assert_eq!(link.count("up", "hole_dropped"), 1);
    pinger.send_down(3, 1472);
    assert_eq!(pinger.receive_down(), 3);
}

#[test]
fn a_new_mtu_is_that_of_both_devices() {
    if !skip::can_run("a_new_mtu_is_that_of_both_devices") {
        return;
    }
    let link = EmulatedLink::start("mtu", &["mtu=1400"]);
    assert!(link.left.ip(&["link", "show", "left"]).contains("mtu 1400"));
    link.set(&["mtu=1300"]);
    assert!(link.left.ip(&["link", "show", "left"]).contains("mtu 1300"));
    assert!(link.right.ip(&["link", "show", "right"]).contains("mtu 1300"));
    let output = link.ctl(&["set", "mtu=1000"]);
    assert!(!output.status.success());
    assert!(link.left.ip(&["link", "show", "left"]).contains("mtu 1300"));
}

#[test]
fn a_transfer_is_no_faster_than_the_rate() {
    if !skip::can_run("a_transfer_is_no_faster_than_the_rate") {
        return;
    }
    const BYTES: usize = 1_000_000;
    let link = EmulatedLink::start("rate", &["up:rate=8mbit", "delay=2ms"]);
    let address: SocketAddr = ([10, 73, 0, 2], 4000).into();
    let listener = link.right.run(|| TcpListener::bind(address)).expect("a port is free");
    let mut sender = link.left.run(|| TcpStream::connect(address)).expect("it is accepted");
    let (mut receiver, _) = listener.accept().expect("somebody connects");
    receiver.set_read_timeout(Some(PATIENCE)).expect("a time-out is set");
    sender.set_write_timeout(Some(PATIENCE)).expect("a time-out is set");
    let start = Instant::now();
    let sending = std::thread::spawn(move || sender.write_all(&vec![7; BYTES]));
    let mut received = Vec::new();
    receiver.read_to_end(&mut received).expect("the stream arrives");
    let time = start.elapsed();
    sending.join().expect("it does not panic").expect("all is sent");
    assert_eq!(received, vec![7; BYTES]);
    assert!(time >= Duration::from_millis(1000), "{time:?}");
    assert!(time < Duration::from_secs(30), "{time:?}");
}

#[test]
fn a_full_queue_drops_datagrams_and_says_so() {
    if !skip::can_run("a_full_queue_drops_datagrams_and_says_so") {
        return;
    }
    let link = EmulatedLink::start("queue", &["up:rate=1mbit", "up:queue=3000b"]);
    let pinger = Pinger::v4(&link);
    for number in 1..=50 {
        pinger.send_up(number, 1000);
    }
    link.wait_for("up", "queue_dropped", 1);
    assert_eq!(pinger.receive_up(), 1);
}

/// Sends datagrams with the numbers from 1 on to the right, and waits until all are in the link.
/// They are so large that the kernel's own few packets (IPv6 sends some) are not mistaken for one.
fn send_large(link: &EmulatedLink, pinger: &Pinger, count: u32) {
    let before = link.count("up", "bytes");
    for number in 1..=count {
        pinger.send_up(number, 1472);
    }
    link.wait_for("up", "bytes", before + u64::from(count) * 1500);
}

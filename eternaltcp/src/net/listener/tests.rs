//! The places of connections, and the windows of sockets.

use super::tcp::AHEAD;
use super::*;

/// Returns the receive buffer of an accepted connection.
async fn receive_buffer(listener: Listener) -> usize {
    let _application = connect(&listener).await;
    let (stream, _) = accept(listener.sockets[0].as_fd()).unwrap();
    SockRef::from(&stream).recv_buffer_size().unwrap()
}

async fn connect(listener: &Listener) -> TcpStream {
    TcpStream::connect(("127.0.0.1", listener.at().port().unwrap())).await.unwrap()
}

#[tokio::test]
async fn listeners_that_wait_take_no_place_and_what_finds_none_waits_for_it() {
    let slots = Slots::new(1, 0);
    let bind = || {
        let listener = Listener::bind(&Listen::Tcp("127.0.0.1:0".parse().unwrap()));
        listener.unwrap().with_slots(slots.clone())
    };
    let (mut idle, mut busy) = (bind(), bind());
    let waits = tokio::spawn(async move { drop(idle.accept().await) });
    tokio::task::yield_now().await;
    let _first = connect(&busy).await;
    let first = busy.accept().await;
    assert!(slots.try_take().is_none(), "a connection takes it");
    let _second = connect(&busy).await;
    tokio::select! {
        biased;
        _ = busy.accept() => panic!("there is no place"),
        () = tokio::task::yield_now() => {}
    }
    drop(first);
    drop(busy.accept().await);
    waits.abort();
}

#[tokio::test]
async fn local_connections_are_not_accepted_far_ahead() {
    let bind = |address: &str| Listener::bind(&Listen::Tcp(address.parse().unwrap()));
    assert_eq!(receive_buffer(bind("127.0.0.1:0").unwrap()).await, 2 * AHEAD);
    assert_ne!(receive_buffer(bind("0.0.0.0:0").unwrap()).await, 2 * AHEAD);
    let transparent = Listener::bind_transparent(&"127.0.0.1:0".parse().unwrap());
    assert_ne!(receive_buffer(transparent.unwrap()).await, 2 * AHEAD);
}

/// The largest segment of the loopback interface, with IPv4 and timestamps.
const SEGMENT: u32 = 65_483;

/// Returns the window that an application sees after many small writes that were all read;
/// `None` if the kernel does not report it.
async fn window_after_small_writes(address: &str, prepare: impl Fn(&Stream)) -> Option<u32> {
    use std::io::Write;
    use std::os::fd::AsFd;
    let listen = Listen::Tcp(address.parse().unwrap());
    let mut listener = Listener::bind(&listen).unwrap();
    let mut there = listener.addresses()[0];
    if there.ip().is_unspecified() {
        there.set_ip([127, 0, 0, 1].into());
    }
    let mut application = std::net::TcpStream::connect(there).unwrap();
    application.set_nodelay(true).unwrap();
    let stream = listener.accept().await;
    prepare(&stream);
    // The first writes let the window grow; the others make the kernel account for its
    // overhead.
    for size in std::iter::repeat_n(64, 2000).chain(std::iter::repeat_n(540, 600)) {
        application.write_all(&[0; 540][..size]).unwrap();
        let mut buffer = bytes::BytesMut::with_capacity(size);
        while buffer.len() < size {
            let left = size - buffer.len();
            stream.read(&mut buffer, left).await.unwrap();
        }
    }
    eternaltcp_sys::carrier_info(application.as_fd()).unwrap().unwrap().window
}

#[tokio::test]
async fn the_window_holds_two_segments_also_after_small_writes() {
    for address in ["127.0.0.1:0", "[::1]:0"] {
        let window = window_after_small_writes(address, |_| {}).await;
        assert!(window.is_none_or(|window| window >= 2 * SEGMENT), "{address}: {window:?}");
    }
}

#[tokio::test]
async fn the_window_of_any_listener_holds_two_segments_once_its_application_was_held() {
    for address in ["127.0.0.1:0", "[::1]:0", "0.0.0.0:0"] {
        let window = window_after_small_writes(address, Stream::hold).await;
        assert!(window.is_none_or(|window| window >= 2 * SEGMENT), "{address}: {window:?}");
    }
}

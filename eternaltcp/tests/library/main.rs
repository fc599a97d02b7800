//! The library as a program uses it: sessions that it opens and accepts itself.

#![allow(clippy::unwrap_used, reason = "helpers of a test may panic as the test may")]

mod rejections;
#[path = "../support/mod.rs"]
mod support;

use std::io::ErrorKind;
use std::time::Duration;

use eternaltcp::Session;
use eternaltcp::client::{Client, ClientConfig, ClientEnd};
use eternaltcp::server::RunningServer;
use eternaltcp::tls::Identity;
use support::{LibraryProgram, TestTarget, pattern, read_all, run};
use tokio::io::{AsyncReadExt, AsyncWriteExt, split};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::timeout;

/// The types that a program may move to another task or thread, or share between them.
const _: () = {
    const fn is_send_and_sync<T: Send + Sync + 'static>() {}
    const fn is_error<T: std::error::Error + Send + Sync + 'static>() {}
    is_send_and_sync::<eternaltcp::client::Client>();
    is_send_and_sync::<eternaltcp::client::ClientConfig>();
    is_send_and_sync::<eternaltcp::client::ClientMonitor>();
    is_send_and_sync::<eternaltcp::client::Opener>();
    is_send_and_sync::<eternaltcp::server::IncomingSession>();
    is_send_and_sync::<eternaltcp::server::ServerMonitor>();
    is_send_and_sync::<eternaltcp::server::RunningServer>();
    is_send_and_sync::<eternaltcp::server::Server>();
    is_send_and_sync::<eternaltcp::server::ServerConfig>();
    is_send_and_sync::<eternaltcp::Listener>();
    is_send_and_sync::<eternaltcp::Session>();
    is_send_and_sync::<eternaltcp::Slots>();
    is_send_and_sync::<eternaltcp::Stream>();
    is_error::<eternaltcp::client::ClientEnd>();
    is_error::<eternaltcp::client::ConfigError>();
    is_error::<eternaltcp::client::ConnectError>();
    is_error::<eternaltcp::client::OpenError>();
    is_error::<eternaltcp::client::Rejection>();
    is_error::<eternaltcp::client::StartError>();
    is_error::<eternaltcp::server::ServerError>();
    is_error::<eternaltcp::tls::IdentityError>();
    is_error::<eternaltcp::Reset>();
};

/// Futures of the library run on any thread of a runtime.
#[allow(dead_code, reason = "it only has to compile")]
fn futures_can_move_between_threads(
    client: &Client,
    server: &mut RunningServer,
    session: &mut Session,
    config: ClientConfig,
) {
    fn is_send(_: impl Send) {}
    is_send(Client::connect(config));
    is_send(client.open("program:1"));
    is_send(client.close());
    is_send(server.accept());
    is_send(session.connected());
}

/// Long enough for anything that should happen at once.
const SOON: Duration = Duration::from_secs(30);

/// Sends one pattern and checks that the other arrives, completely and in order. Reports to
/// `progress` how many bytes arrived.
async fn exchange(
    session: Session,
    send: Vec<u8>,
    expect: Vec<u8>,
    progress: mpsc::UnboundedSender<usize>,
) {
    let (mut from, mut to) = split(session);
    let sending = async {
        to.write_all(&send).await.unwrap();
        to.shutdown().await.unwrap();
    };
    let receiving = async {
        let (mut received, mut chunk) = (Vec::new(), vec![0; 64 << 10]);
        loop {
            let count = from.read(&mut chunk).await.unwrap();
            if count == 0 {
                return received;
            }
            received.extend_from_slice(&chunk[..count]);
            progress.send(count).unwrap();
        }
    };
    let (_, received) = tokio::join!(sending, receiving);
    assert!(received == expect, "{} of {} bytes, or a wrong one", received.len(), expect.len());
}

#[test]
fn many_streams_are_exact_both_ways_while_carriers_die() {
    run(async {
        const CUT_EVERY: usize = 4 << 20;
        let mut program = LibraryProgram::start().await;
        let mut tasks = JoinSet::new();
        let (progress, mut watched) = mpsc::unbounded_channel();
        for n in 0..24 {
            let (client, server) = program.session().await;
            let (up, down) = (pattern((64 << 10) * (n + 1)), pattern(1 << 20));
            tasks.spawn(exchange(client, up.clone(), down.clone(), progress.clone()));
            tasks.spawn(exchange(server, down, up, progress.clone()));
        }
        drop(progress);
        let mut received = 0;
        while let Some(count) = watched.recv().await {
            if (received + count) / CUT_EVERY > received / CUT_EVERY {
                program.path.cut();
            }
            received += count;
        }
        assert_eq!(tasks.join_all().await.len(), 48);
        let statistics = program.client.statistics();
        assert!(statistics.attaches > 3, "too few carriers died: {statistics:?}");
    });
}

#[test]
fn each_direction_of_a_stream_ends_alone() {
    run(async {
        let mut program = LibraryProgram::start().await;
        for is_client_first in [true, false] {
            let (client, server) = program.session().await;
            let (mut first, mut last) =
                if is_client_first { (client, server) } else { (server, client) };
            first.write_all(b"that is all").await.unwrap();
            first.shutdown().await.unwrap();
            assert_eq!(read_all(&mut last).await, (b"that is all".to_vec(), None));
            assert_eq!(first.write(b"x").await.unwrap_err().kind(), ErrorKind::BrokenPipe);
            program.path.cut();
            last.write_all(&pattern(300_000)).await.unwrap();
            last.shutdown().await.unwrap();
            assert!(read_all(&mut first).await == (pattern(300_000), None));
        }
    });
}

#[test]
fn an_abort_is_an_error_at_the_other_side_after_the_bytes_before_it() {
    run(async {
        let mut program = LibraryProgram::start().await;
        for is_client_aborting in [true, false] {
            let (client, server) = program.session().await;
            let (mut one, mut other) =
                if is_client_aborting { (client, server) } else { (server, client) };
            one.write_all(b"last words").await.unwrap();
            let mut words = [0; 10];
            other.read_exact(&mut words).await.unwrap();
            one.abort();
            for _ in 0..2 {
                let error = other.read(&mut words).await.unwrap_err();
                assert_eq!(error.kind(), ErrorKind::ConnectionReset);
                assert!(error.to_string().contains("the program aborted it"), "{error}");
            }
            let error = other.write(b"x").await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::ConnectionReset);
            assert_eq!(other.shutdown().await.unwrap_err().kind(), ErrorKind::ConnectionReset);
        }
    });
}

#[test]
fn a_dropped_stream_delivers_what_was_written_and_then_takes_nothing() {
    run(async {
        let mut program = LibraryProgram::start().await;
        let (mut client, mut server) = program.session().await;
        let sent = pattern(100_000);
        let (_, received) = tokio::join!(
            async {
                client.write_all(&sent).await.unwrap();
                drop(client);
            },
            read_all(&mut server),
        );
        assert!(received == (pattern(100_000), None), "in order");
        let error = loop {
            if let Err(error) = server.write_all(&[0; 1000]).await {
                break error;
            }
            tokio::task::yield_now().await;
        };
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    });
}

#[test]
fn a_stream_that_is_dropped_with_data_unread_is_reset() {
    run(async {
        let mut program = LibraryProgram::start().await;
        let (mut client, mut server) = program.session().await;
        server.write_all(b"hello").await.unwrap();
        client.read_exact(&mut [0; 1]).await.unwrap();
        drop(client);
        assert_eq!(read_all(&mut server).await.1, Some(ErrorKind::ConnectionReset));
    });
}

#[test]
fn an_incoming_session_says_who_asks_for_what() {
    run(async {
        let user = Identity::generate().unwrap().public_key();
        let mut key = None;
        let mut program = LibraryProgram::with(|_, client| key = Some(client.keys.first().clone()))
            .await
            .unwrap();
        let _default = program.client.open_default().await.unwrap();
        let incoming = program.server.accept().await.unwrap();
        assert!(!incoming.is_named());
        assert_eq!(incoming.target().to_string(), "127.0.0.1:23");
        let _named = program.client.open("[2001:db8::1]:7").await.unwrap();
        let incoming = program.server.accept().await.unwrap();
        assert!(incoming.is_named());
        assert_eq!(incoming.target().to_string(), "[2001:db8::1]:7");
        assert_eq!(incoming.from().to_string(), "127.0.0.1");
        assert_eq!(Some(incoming.key()), key.as_ref());
        assert_ne!(incoming.key(), &user);
    });
}

#[test]
fn connected_waits_for_the_answer_and_data_does_not() {
    run(async {
        let mut program = LibraryProgram::start().await;
        let mut session = program.client.open("slow:1").await.unwrap();
        session.write_all(b"early").await.unwrap();
        let incoming = program.server.accept().await.unwrap();
        assert!(timeout(Duration::from_millis(300), session.connected()).await.is_err());
        let mut server = incoming.accept().unwrap();
        timeout(SOON, session.connected()).await.unwrap().unwrap();
        let mut early = [0; 5];
        server.read_exact(&mut early).await.unwrap();
        assert_eq!(&early, b"early");
    });
}

#[test]
fn a_program_that_does_not_answer_in_time_counts_as_a_slow_target() {
    run(async {
        let mut program = LibraryProgram::with(|server, _| {
            server.limits.connect_timeout = Duration::from_millis(200);
        })
        .await
        .unwrap();
        let mut session = program.client.open("slow:1").await.unwrap();
        assert_eq!(session.connected().await.unwrap_err().kind(), ErrorKind::TimedOut);
        let late = program.server.accept().await.unwrap().accept();
        assert_eq!(late.unwrap_err().kind(), ErrorKind::ConnectionReset);
    });
}

#[test]
fn the_server_connects_a_session_to_its_target_where_the_program_says_so() {
    run(async {
        let mut program = LibraryProgram::start().await;
        let target = TestTarget::start().await;
        let mut session = program.client.open(&*target.address().to_string()).await.unwrap();
        program.server.accept().await.unwrap().connect();
        session.connected().await.unwrap();
        target.echo();
        session.write_all(b"hello").await.unwrap();
        session.shutdown().await.unwrap();
        assert_eq!(read_all(&mut session).await, (b"hello".to_vec(), None));
        let mut refused = program.client.open("127.0.0.1:1").await.unwrap();
        program.server.accept().await.unwrap().connect();
        let error = refused.connected().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
        assert!(error.to_string().contains("127.0.0.1:1"), "{error}");
    });
}

#[test]
fn a_reader_that_does_not_read_stops_the_writer() {
    run(async {
        const CHUNK: usize = 10_000;
        // The limits of the protocol for one session, and what pipes and backlog hold besides.
        const MAX_HELD: usize = 1 << 20;
        let mut program = LibraryProgram::start().await;
        let (mut client, mut server) = program.session().await;
        let chunk = pattern(CHUNK);
        let mut written = 0;
        while timeout(Duration::from_secs(1), client.write_all(&chunk)).await.is_ok() {
            written += CHUNK;
            assert!(written < MAX_HELD, "nobody reads, and {written} bytes were taken");
        }
        assert!(written > 0);
        // Other sessions continue.
        let (mut other, mut end) = program.session().await;
        other.write_all(b"hello").await.unwrap();
        end.read_exact(&mut [0; 5]).await.unwrap();
        // Part of the last chunk may have arrived: a cancelled write is the caller's
        // responsibility.
        let expected = chunk.repeat(written / CHUNK);
        let mut received = vec![0; written];
        server.read_exact(&mut received).await.unwrap();
        assert!(received == expected, "a byte is wrong");
    });
}

#[test]
fn a_client_that_is_dropped_ends_its_sessions_at_both_sides() {
    run(async {
        let mut program = LibraryProgram::start().await;
        let (mut client, mut server) = program.session().await;
        let opener = program.client.opener();
        drop(program.client);
        assert_eq!(read_all(&mut client).await.1, Some(ErrorKind::ConnectionAborted));
        assert_eq!(read_all(&mut server).await.1, Some(ErrorKind::ConnectionAborted));
        assert!(opener.open("program:1").await.is_err());
    });
}

#[test]
fn a_server_that_is_closed_ends_its_sessions_and_accepts_no_more() {
    run(async {
        let mut program = LibraryProgram::start().await;
        let (mut client, mut server) = program.session().await;
        program.server.close().await;
        assert_eq!(read_all(&mut server).await.1, Some(ErrorKind::ConnectionAborted));
        assert_eq!(read_all(&mut client).await.1, Some(ErrorKind::ConnectionAborted));
        program.client.close().await;
        assert_eq!(program.client.ended().await, ClientEnd::Done);
        assert_eq!(program.client.ended().await, ClientEnd::Done, "it may be asked again");
    });
}

#[test]
fn a_text_that_is_not_a_target_is_an_error_at_once() {
    run(async {
        let program = LibraryProgram::start().await;
        let error = program.client.open("no port").await.unwrap_err().to_string();
        assert!(error.contains("host:port"), "{error}");
    });
}

#[test]
fn a_server_whose_only_client_was_there_for_a_moment_is_of_no_use() {
    run(async {
        let LibraryProgram { mut client, server, path: _path, .. } = LibraryProgram::start().await;
        client.close().await;
        client.ended().await;
        let for_ever = Duration::from_secs(3600);
        let monitor = server.monitor();
        let unused = monitor.unused(for_ever, Duration::from_millis(10));
        timeout(SOON, unused).await.unwrap();
    });
}

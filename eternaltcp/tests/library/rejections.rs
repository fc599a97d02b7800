//! Rejections, as a program sees them.

use std::io::ErrorKind;
use std::time::Duration;

use eternaltcp::client::{ClientConfig, ConnectError, RejectionReason, Trust};
use eternaltcp::server::ServerConfig;
use eternaltcp::tls::Identity;
use eternaltcp::{Cause, RefusalCode, Reset, this_instance};
use tokio::io::AsyncWriteExt;

use super::support::{LibraryProgram, read_all, run};

#[test]
fn a_refusal_is_reported_in_the_servers_words() {
    run(async {
        let mut program = LibraryProgram::start().await;
        let mut session = program.client.open("shop:443").await.unwrap();
        // Data may follow at once.
        session.write_all(b"hello").await.unwrap();
        program.server.accept().await.unwrap().refuse("closed on Sundays");
        let error = session.connected().await.unwrap_err();
        let text = "the target refused the connection: closed on Sundays";
        assert_eq!((error.kind(), error.to_string()), (ErrorKind::ConnectionRefused, text.into()));
        let reset = error.get_ref().unwrap().downcast_ref::<Reset>().unwrap();
        assert_eq!(reset.cause, Cause::Refused);
        let (bytes, end) = read_all(&mut session).await;
        assert_eq!((bytes.len(), end), (0, Some(ErrorKind::ConnectionRefused)));
        let error = session.write(b"x").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
        // A dropped one is refused too.
        let mut session = program.client.open("shop:443").await.unwrap();
        drop(program.server.accept().await.unwrap());
        let error = session.connected().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
    });
}

#[test]
fn a_target_that_is_not_permitted_is_not_handed_out() {
    run(async {
        let mut program = LibraryProgram::with(|server, _| {
            server.permits = vec!["shop:443".parse().unwrap()];
        })
        .await
        .unwrap();
        let mut session = program.client.open("shop:80").await.unwrap();
        let error = session.connected().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::PermissionDenied);
        assert!(error.to_string().contains("shop:80"), "{error}");
        let _session = program.client.open("shop:443").await.unwrap();
        assert_eq!(program.server.accept().await.unwrap().target().to_string(), "shop:443");
    });
}

#[test]
fn connect_says_why_there_is_no_tunnel() {
    run(async {
        let stranger = Identity::generate().unwrap();
        let line = stranger.public_key().to_string();
        let refused = LibraryProgram::with(|_, client| client.keys = stranger.into()).await;
        let Err(ConnectError::Refused(why)) = refused.map(|_| ()) else { panic!("let in") };
        assert!(why.to_string().contains(&line), "{why}");
        assert_eq!(why.reason(), RejectionReason::ByServer(RefusalCode::KeyUnknown));
        let failed = LibraryProgram::with(|_, client| {
            let nobody: eternaltcp::address::ServerAddress = "127.0.0.1:2".parse().unwrap();
            client.servers = nobody.into();
            client.connect_timeout = Some(Duration::from_millis(100));
        });
        let Err(ConnectError::Failed(why)) = failed.await.map(|_| ()) else { panic!("attached") };
        assert!(why.contains("gave up"), "{why}");
    });
}

/// Connects with these settings to a server that does not let the client in.
async fn rejected(change: impl FnOnce(&mut ServerConfig, &mut ClientConfig)) -> RejectionReason {
    match LibraryProgram::with(change).await.map(|_| ()) {
        Err(ConnectError::Refused(why)) => {
            assert!(why.to_string().len() > 20, "it says what to do: {why}");
            why.reason()
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_program_can_tell_an_unknown_key_from_a_name_that_is_taken_and_a_changed_host_key() {
    run(async {
        let stranger = Identity::generate().unwrap();
        let reason = rejected(|_, client| client.keys = stranger.into()).await;
        assert_eq!(reason, RejectionReason::ByServer(RefusalCode::KeyUnknown));

        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("known_hosts");
        let none = file.clone();
        let reason = rejected(move |_, client| client.trust = Trust::new(none)).await;
        assert_eq!(reason, RejectionReason::HostKeyUnknown);

        let another = Identity::generate().unwrap().public_key();
        let reason = rejected(move |_, client| client.trust = Trust::only(another)).await;
        assert_eq!(reason, RejectionReason::HostKeyChanged);

        let live = LibraryProgram::start().await;
        let end = live.again(this_instance("program")).await.map(|_| ()).unwrap_err();
        let ConnectError::Refused(why) = end else { panic!("{end:?}") };
        assert_eq!(why.reason(), RejectionReason::ByServer(RefusalCode::NameTaken));
    });
}

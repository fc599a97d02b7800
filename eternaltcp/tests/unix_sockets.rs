//! Unix sockets at either end.

mod support;

use support::{LibraryPair, TestTarget, pattern, read_all, run};
use tokio::io::AsyncWriteExt;
use tokio::net::{UnixListener, UnixStream};

#[test]
fn an_application_may_connect_to_a_unix_socket() {
    run(async {
        let target = TestTarget::start().await;
        let pair = LibraryPair::start(target.address()).await;
        let path = pair.file("application");
        pair.listen(&format!("unix:{path}"), None);
        target.echo();
        let mut stream = UnixStream::connect(&path).await.unwrap();
        let sent = pattern(100_000);
        stream.write_all(&sent).await.unwrap();
        stream.shutdown().await.unwrap();
        assert!(read_all(&mut stream).await == (sent, None));
    });
}

#[test]
fn a_target_may_be_a_unix_socket() {
    run(async {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("target");
        let listener = UnixListener::bind(&path).unwrap();
        let pair = LibraryPair::with(&format!("unix:{}", path.display()), |_, _| {}).await;
        let mut application = pair.connect().await;
        let (mut target, _) = listener.accept().await.unwrap();
        let sent = pattern(100_000);
        target.write_all(&sent).await.unwrap();
        target.shutdown().await.unwrap();
        assert!(read_all(&mut application).await == (sent, None));
        application.write_all(b"bye").await.unwrap();
        drop(application);
        assert_eq!(read_all(&mut target).await, (b"bye".to_vec(), None));
    });
}

//! Many concurrent sessions, opened in one burst.

mod support;

use support::{LibraryPair, TestTarget, echo, run};

const SESSIONS: u32 = 2000;

#[test]
fn two_thousand_sessions_opened_at_once_all_work() {
    run(async {
        let target = TestTarget::start().await;
        let most = SESSIONS as usize;
        let pair = LibraryPair::apart(&target.address().to_string(), |_, client| {
            client.max_waiting = most
        })
        .await;
        target.echo();
        let mut all = Vec::new();
        for _ in 0..SESSIONS {
            all.push(pair.connect().await);
        }
        // All of them are opened with the first attach.
        pair.path.open();
        let echoes = all.into_iter().zip(0..).map(|(mut stream, number)| {
            tokio::spawn(async move { echo(&mut stream, &u32::to_le_bytes(number)).await })
        });
        for done in echoes.collect::<Vec<_>>() {
            done.await.unwrap();
        }
    });
}

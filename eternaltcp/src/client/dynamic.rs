//! Dynamic forwards: a listener whose applications name their targets.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::timeout;
use tracing::debug;

use super::Opener;
use crate::dynamic::{Conversation, RefusedRequest, Step, TargetRequest};
use crate::log_limit::{BURST, LogLimit, limited};
use crate::net::last_answer::send_last;
use crate::net::listener::Listener;
use crate::net::prologue::PrologueStep;
use crate::net::stream::{Stream, peer_name};

/// The maximum number of connections of one listener that have not named a target yet, or are being
/// refused; further ones wait to be accepted.
const PLACES: usize = 256;

/// Limits the lines about refused requests: a port scan causes thousands.
static REFUSED: LogLimit = LogLimit::new(BURST);

/// Time allowed for a connection to name its target.
const PATIENCE: Duration = Duration::from_secs(10);

/// Serves a dynamic forward for as long as the client runs: each connection names its target by
/// SOCKS4, SOCKS4a, SOCKS5 or HTTP CONNECT. Names are passed on, and looked up by the server. An
/// application gets its answer when the target is connected; until then it waits, even during an
/// outage.
///
/// Dropping the future closes the listener. Accepted connections continue.
pub async fn serve_dynamic(mut listener: Listener, opener: Opener) {
    let places = Arc::new(Semaphore::new(PLACES));
    loop {
        // The semaphore is never closed.
        let place = Arc::clone(&places).acquire_owned().await;
        let stream = tokio::select! {
            stream = listener.accept() => stream,
            () = opener.ended() => return,
        };
        let opener = opener.clone();
        tokio::spawn(async move {
            serve_one(stream, &opener).await;
            drop(place);
        });
    }
}

async fn serve_one(stream: Stream, opener: &Opener) {
    let mut conversation =
        if stream.was_greeted() { Conversation::greeted() } else { Conversation::default() };
    match timeout(PATIENCE, hear(&stream, &mut conversation)).await {
        Ok(Ok(ReceivedRequest::Request(request))) => {
            debug!("{} asks for {}", peer_name(&stream), request.target);
            opener.carry_request(stream, request).await;
        }
        Ok(Ok(ReceivedRequest::Refused(refused))) => {
            let (peer, why) = (peer_name(&stream), &refused.why);
            limited!(&REFUSED, info, "a request of {peer} is refused: {why}");
            send_last(stream, refused.say).await;
        }
        Ok(Err(error)) => debug!("{} sent no complete request: {error}", peer_name(&stream)),
        // Some programs only probe whether the port is open, and send nothing.
        Err(_) if conversation.is_empty() => debug!("{} said nothing", peer_name(&stream)),
        Err(_) => {
            let (peer, seconds) = (peer_name(&stream), PATIENCE.as_secs());
            limited!(
                &REFUSED,
                info,
                "{peer} sent no complete request within {seconds} s, and is refused"
            );
        }
    }
}

enum ReceivedRequest {
    Request(TargetRequest),
    Refused(RefusedRequest),
}

/// Reads an application's request, and leaves it at the socket: a process that dies meanwhile takes
/// nothing along.
async fn hear(stream: &Stream, conversation: &mut Conversation) -> io::Result<ReceivedRequest> {
    let (mut buffer, mut known) = (Vec::new(), 0);
    loop {
        match conversation.step() {
            Step::Connect(request) => return Ok(ReceivedRequest::Request(request)),
            Step::Refuse(refused) => return Ok(ReceivedRequest::Refused(refused)),
            Step::Say(text) => stream.say(text, PrologueStep::Greet).await?,
            Step::Read => {
                buffer.resize(known + conversation.room(), 0);
                let count = stream.peek(&mut buffer, known).await?;
                if count == 0 {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                conversation.push(&buffer[known..count]);
                known = count;
            }
        }
    }
}

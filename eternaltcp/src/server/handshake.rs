//! A stranger on its way to a carrier: it proves a key, and sends its request.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::net::{IpAddr, SocketAddr};
use std::task::Poll;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use eternaltcp_proto::{
    Acceptor, AttachRequest, Hello, JoinRequest, Progress, StandbyRequest, Time, encode_refusal,
};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};

use super::Context;
use super::accept_failure::{AcceptFailure, RejectedCarrier};
use super::gate::Ticket;
use crate::driver::CarrierIo;
use crate::net::socket::prepare_carrier;
use eternaltcp_tls::{Connection, Deadlines, HandshakeError, PublicKey, handshake_of_stranger};

/// The maximum number of sessions that a client may list at an attach: more than any client has,
/// and at most 2 MiB of memory.
const MAX_NUMBERS: usize = 1 << 16;

/// The first request of a client.
pub(super) enum ClientRequest {
    /// Attach its carrier to a tunnel.
    Attach(Hello),
    /// Make its carrier stand by for a tunnel.
    StandBy(StandbyRequest),
}

/// The request on a standby carrier.
pub(super) enum Promotion {
    /// Attach it.
    Attach(Hello),
    /// Join the attached one.
    Join,
}

/// A client whose key is proved, before it has a tunnel.
pub(super) struct Handshake {
    carrier: CarrierIo,
    acceptor: Acceptor,
    /// The origin of the acceptor's time.
    origin: Instant,
    chunks: VecDeque<Bytes>,
    pub(super) key: PublicKey,
    pub(super) from: IpAddr,
}

impl Handshake {
    /// Lets the stranger prove a key in time. It gets more time if it has received this side's part
    /// of the handshake and asks for it, and if it comes from an address of a client with a tunnel.
    pub(super) async fn perform(
        context: &Context,
        stream: TcpStream,
        peer: SocketAddr,
        ticket: &Ticket,
    ) -> Result<Self, AcceptFailure> {
        let rules = context.rules();
        let limits = &rules.limits;
        let hello = Instant::now() + limits.login_grace;
        let signature = hello + limits.login_grace + limits.signature_grace;
        let answer = if ticket.is_neighbour() { signature } else { hello + limits.login_grace };
        let deadlines = Deadlines { hello, answer, signature };
        prepare_carrier(&stream)?;
        let mut tls = Connection::server(&context.tls).map_err(HandshakeError::from)?;
        let mut incoming = BytesMut::new();
        let done =
            handshake_of_stranger(&stream, &mut tls, &mut incoming, deadlines, || ticket.ask())
                .await?;
        let mut carrier = CarrierIo::new(stream, tls, incoming)?;
        let apparent = carrier.peer();
        if (apparent.ip(), apparent.port()) != (peer.ip(), peer.port()) {
            carrier.set_origin(peer);
        }
        let acceptor = Acceptor::new(MAX_NUMBERS);
        let (origin, chunks) = (Instant::now(), done.early.into());
        Ok(Self { carrier, acceptor, origin, chunks, key: done.peer, from: peer.ip() })
    }

    /// Returns the client's request. Later data stay unread.
    pub(super) async fn read_request(&mut self) -> Result<ClientRequest, AcceptFailure> {
        loop {
            match self.advance().await? {
                Progress::Hello(hello) => return Ok(ClientRequest::Attach(hello)),
                Progress::Standby(request) => return Ok(ClientRequest::StandBy(request)),
                Progress::More => {}
                Progress::Join | Progress::Complete => return Err(AcceptFailure::TimedOut),
            }
        }
    }

    /// Lets the client stand by until it sends a request on its carrier.
    pub(super) async fn stand_by(&mut self, silence: Duration) -> Result<Promotion, AcceptFailure> {
        self.acceptor.let_stand_by(self.now(), silence);
        loop {
            let silent = self.acceptor.poll_timeout().unwrap_or_default();
            let silent = self.origin + silent.since_origin();
            // Waiting data are read before silence is judged.
            match timeout_at(silent, self.advance()).await.map_err(|_| AcceptFailure::Silent)?? {
                Progress::Hello(hello) => return Ok(Promotion::Attach(hello)),
                Progress::Join => return Ok(Promotion::Join),
                Progress::More => self.carrier.shrink(),
                Progress::Standby(_) | Progress::Complete => return Err(AcceptFailure::TimedOut),
            }
        }
    }

    fn now(&self) -> Time {
        Time::new(self.origin.elapsed())
    }

    /// Feeds the acceptor until it reports something, and sends its answers to a standby client.
    async fn advance(&mut self) -> Result<Progress, AcceptFailure> {
        match self.acceptor.poll()? {
            Progress::More => {}
            progress => return Ok(progress),
        }
        if let Some(chunk) = self.chunks.pop_front() {
            self.acceptor.handle_input(chunk);
            return Ok(self.acceptor.poll()?);
        }
        let (mut plaintext, now) = (Vec::new(), self.now());
        let moved = poll_fn(|cx| {
            if let Poll::Ready(read) = self.carrier.poll_read(cx, &mut plaintext) {
                return Poll::Ready(read.map(|_| ()));
            }
            match self.carrier.poll_send(cx, now, |_| self.acceptor.poll_transmit()) {
                Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
                Poll::Ready(Ok(())) | Poll::Pending => Poll::Pending,
            }
        });
        let result = moved.await;
        self.acceptor.handle_heard(self.now());
        self.chunks.extend(plaintext);
        match result {
            Err(_) if !self.chunks.is_empty() => Ok(Progress::More),
            result => result.map(|()| Progress::More).map_err(AcceptFailure::from),
        }
    }

    /// Waits for the rest of the request.
    pub(super) async fn read_numbers(&mut self) -> Result<(), AcceptFailure> {
        loop {
            match self.advance().await? {
                Progress::Complete => return Ok(()),
                Progress::More => {}
                Progress::Hello(_) | Progress::Standby(_) | Progress::Join => {
                    return Err(AcceptFailure::TimedOut);
                }
            }
        }
    }

    /// Tells the client the reason, as far as it can understand it.
    pub(super) fn reject(mut self, why: AcceptFailure) -> RejectedCarrier {
        let refusal = why.refusal().map(|refusal| encode_refusal(&refusal));
        let is_told = refusal.is_some_and(|refusal| self.carrier.push(&refusal).is_ok());
        RejectedCarrier { why, carrier: is_told.then_some(self.carrier), key: Some(self.key) }
    }

    /// Returns the carrier that will join, after [`Self::stand_by`] reported it, with the data that
    /// were read after the request.
    pub(super) fn into_join(mut self) -> Option<(JoinRequest, CarrierIo)> {
        self.pass_unread_on();
        Some((self.acceptor.into_join()?, self.carrier))
    }

    /// Returns the complete request and its carrier, after [`Self::read_numbers`] is done. Returns
    /// `None` if data were read after it, because a client waits for the answer.
    pub(super) fn into_request(mut self) -> Option<(AttachRequest, CarrierIo)> {
        self.pass_unread_on();
        Some((self.acceptor.into_request()?, self.carrier))
    }

    fn pass_unread_on(&mut self) {
        for chunk in self.chunks.drain(..) {
            self.acceptor.handle_input(chunk);
        }
    }
}

#[cfg(test)]
mod tests {
    use eternaltcp_proto::TunnelId;
    use tokio::net::TcpListener;

    use super::*;
    use eternaltcp_tls::{ClientTls, Identity, ServerTls, handshake};

    const SILENCE: Duration = Duration::from_millis(300);

    /// Returns a packet without a session or numbers.
    fn packet(kind: u32, payload: &[u8]) -> Vec<u8> {
        let words = [kind, 0, 0, 0, u32::try_from(payload.len()).unwrap()];
        [&words.map(u32::to_le_bytes).concat(), payload].concat()
    }

    async fn send(carrier: &mut CarrierIo, bytes: &[u8]) {
        carrier.push(bytes).unwrap();
        poll_fn(|cx| carrier.poll_send(cx, Time::ZERO, |_| None)).await.unwrap();
    }

    /// Returns a handshake and the other end of its carrier.
    async fn pair() -> (Handshake, CarrierIo) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let there = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (here, from) = listener.accept().await.unwrap();
        let [server, client] = [(); 2].map(|()| Identity::generate().unwrap());
        let server = ServerTls::new(&server).unwrap();
        let mut client = Connection::client(&ClientTls::new(&client).unwrap()).unwrap();
        let mut server = Connection::server(&server).unwrap();
        let deadline = Instant::now() + Duration::from_secs(60);
        let (mut to_client, mut to_server) = (BytesMut::new(), BytesMut::new());
        let (shaken, other) = tokio::join!(
            handshake(&here, &mut server, &mut to_server, deadline),
            handshake(&there, &mut client, &mut to_client, deadline),
        );
        other.unwrap();
        let shaken = shaken.unwrap();
        let handshake = Handshake {
            carrier: CarrierIo::new(here, server, to_server).unwrap(),
            acceptor: Acceptor::new(MAX_NUMBERS),
            origin: Instant::now(),
            chunks: shaken.early.into(),
            key: shaken.peer,
            from: from.ip(),
        };
        (handshake, CarrierIo::new(there, client, to_client).unwrap())
    }

    fn versions() -> Vec<u8> {
        [1_u32.to_le_bytes(), 1_u32.to_le_bytes()].concat()
    }

    /// [ATTACH-1] Each packet is a record, and so a chunk of its own.
    #[tokio::test]
    async fn data_after_a_complete_request_are_not_dropped_silently() {
        for has_more in [false, true] {
            let (mut handshake, mut client) = pair().await;
            let settings = [3000_u64, 1 << 26, 1 << 18, 1000].map(u64::to_le_bytes).concat();
            let hello = [
                b"etcp",
                &versions()[..],
                &0_u64.to_le_bytes(),
                &1_u64.to_le_bytes(),
                &settings,
                &[1],
                &[7; 16],
            ]
            .concat();
            send(&mut client, &packet(9, &hello)).await;
            let Ok(ClientRequest::Attach(_)) = handshake.read_request().await else {
                panic!("it asked")
            };
            send(&mut client, &packet(13, &0_u32.to_le_bytes())).await;
            handshake.read_numbers().await.expect("it is whole");
            if has_more {
                handshake.chunks.push_back(packet(1, &[]).into());
            }
            assert_eq!(handshake.into_request().is_some(), !has_more);
        }
    }

    /// [JOIN-3] [STANDBY-5]
    #[tokio::test]
    async fn a_heartbeat_behind_a_join_goes_along_with_it() {
        let (mut handshake, mut client) = pair().await;
        send(&mut client, &packet(15, &[b"etcp", &versions()[..], &[7; 16]].concat())).await;
        let Ok(ClientRequest::StandBy(_)) = handshake.read_request().await else {
            panic!("it asked")
        };
        let join = packet(16, &2_u64.to_le_bytes());
        let asks = async { send(&mut client, &join).await };
        let (wanted, ()) = tokio::join!(handshake.stand_by(SILENCE * 100), asks);
        assert!(matches!(wanted, Ok(Promotion::Join)));
        handshake.chunks.push_back(packet(1, &[]).into());
        let (request, _carrier) = handshake.into_join().expect("it asked");
        assert!(request.has_unread());
    }

    /// [STANDBY-7]
    #[tokio::test]
    async fn the_silence_of_a_standby_client_is_limited() {
        let (mut handshake, mut client) = pair().await;
        send(&mut client, &packet(15, &[b"etcp", &versions()[..], &[7; 16]].concat())).await;
        let Ok(ClientRequest::StandBy(request)) = handshake.read_request().await else {
            panic!("it asked")
        };
        assert_eq!(request.tunnel, TunnelId([7; 16]));
        let start = Instant::now();
        let lively = async {
            for _ in 0..5 {
                tokio::time::sleep(SILENCE / 3).await;
                send(&mut client, &packet(1, &[])).await;
            }
        };
        let (result, ()) = tokio::join!(handshake.stand_by(SILENCE), lively);
        assert!(matches!(result, Err(AcceptFailure::Silent)));
        assert!(start.elapsed() >= SILENCE * 8 / 3, "{:?}", start.elapsed());
        // It was answered meanwhile: 32 bytes, and an echo.
        let mut plaintext = Vec::new();
        while plaintext.iter().map(Bytes::len).sum::<usize>() < 52 {
            poll_fn(|cx| client.poll_read(cx, &mut plaintext)).await.unwrap();
        }
        assert_eq!(plaintext[0][..4], 15_u32.to_le_bytes());
    }
}

//! The contents of the page, as JSON. The number of its rows and the length of its texts are
//! limited.

use std::collections::HashMap;
use std::time::{Duration, SystemTime};

use eternaltcp::clean;
use eternaltcp::control::EndedServer;
use eternaltcp::process::supervised;
use eternaltcp::status::{
    CarrierStatus, Peer, SessionStage, SessionStatus, TunnelCondition, TunnelOverview,
};
use serde::Serialize;

use super::FigureSource;
use super::pauses::PastPause;

/// The maximum number of tunnels that the page shows.
const MAX_TUNNELS: usize = 100;

/// The maximum number of sessions that the page shows, distributed over its tunnels.
const MAX_SESSIONS: usize = 1000;

/// The longest text that it shows, in characters.
const MAX_TEXT: usize = 200;

/// A proxy at one moment.
#[derive(Debug)]
pub(super) struct ObservedState {
    role: String,
    started_at: SystemTime,
    now: SystemTime,
    counted_since: SystemTime,
    is_draining: bool,
    sums: ShownSums,
    tunnels: Vec<TunnelOverview>,
    /// The servers whose tunnels have ended for good.
    ended: Vec<EndedServer>,
}

impl ObservedState {
    /// Asks the proxy. Only the tunnels that are shown are asked.
    pub(super) async fn take(source: &FigureSource) -> Self {
        let subject = &source.subject;
        let (levels, totals) = (subject.levels(), subject.totals());
        let shown = (levels.attached + levels.detached).clamp(1, MAX_TUNNELS);
        let tunnels = subject.overview(MAX_TUNNELS, MAX_SESSIONS / shown).await;
        Self {
            role: subject.role().to_string(),
            started_at: source.started_at,
            now: SystemTime::now(),
            counted_since: totals.since,
            is_draining: levels.is_draining,
            sums: ShownSums {
                tunnels: levels.attached + levels.detached,
                attached: levels.attached,
                sessions: levels.sessions,
                sent_bytes: totals.sent_bytes,
                received_bytes: totals.received_bytes,
                replayed_bytes: totals.replayed_bytes,
            },
            tunnels,
            ended: subject.ended(),
        }
    }

    /// Returns the contents of the page. Without names it tells no more than the metrics do: no
    /// name, key, address or target.
    pub(super) fn json(
        &self,
        pauses: &[PastPause],
        has_names: bool,
    ) -> Result<String, serde_json::Error> {
        let writer = TextWriter { has_names };
        let numbered = self.tunnels.iter().enumerate();
        let tunnels: Vec<_> = numbered.map(|(number, it)| writer.tunnel(number, it)).collect();
        let known: HashMap<_, _> = tunnels.iter().map(|it| (&it.tunnel, &it.who)).collect();
        let pauses = pauses.iter().map(|pause| {
            let tunnel = pause.event.tunnel.clone().unwrap_or_default();
            let known = known.get(&tunnel).map(|who| (*who).clone());
            let who = known.unwrap_or_else(|| writer.who(&pause.event.peer, &tunnel));
            ShownPause {
                number: pause.number,
                ended_at: unix_ms(pause.ended_at),
                length_ms: pause.length.as_secs_f64() * 1e3,
                who,
                why: writer.text(&pause.event.why),
            }
        });
        let ended = self.ended.iter().enumerate().map(|(at, it)| writer.ended(at, it));
        let host = rustix::system::uname();
        serde_json::to_string(&ShownState {
            has_names,
            role: &self.role,
            host: writer.text(&host.nodename().to_string_lossy()),
            version: env!("CARGO_PKG_VERSION"),
            started_at: unix_ms(self.started_at),
            now: unix_ms(self.now),
            counted_since: unix_ms(self.counted_since),
            is_draining: self.is_draining,
            restarts: supervised().map_or(0, |process| process.restarts),
            sums: &self.sums,
            pauses: pauses.collect(),
            tunnels: &tunnels,
            ended: ended.collect(),
        })
    }
}

/// Decides which texts are shown, and how.
#[derive(Clone, Copy)]
struct TextWriter {
    has_names: bool,
}

impl TextWriter {
    /// Returns a text that may be anybody's.
    fn text(self, text: &str) -> String {
        if !self.has_names {
            return String::new();
        }
        let text = clean(text);
        match text.char_indices().nth(MAX_TEXT) {
            Some((end, _)) => format!("{}…", &text[..end]),
            None => text.into_owned(),
        }
    }

    /// Returns the name of a peer, or that of its tunnel.
    fn who(self, peer: &str, tunnel: &str) -> String {
        match (self.has_names, tunnel) {
            (true, _) => self.text(peer),
            (false, "") => "new tunnel".to_owned(),
            (false, tunnel) => format!("tunnel {tunnel}"),
        }
    }

    fn tunnel(self, number: usize, overview: &TunnelOverview) -> ShownTunnel {
        let status = &overview.status;
        let tunnel = status.tunnel.clone().unwrap_or_default();
        let (who, details) = match &status.peer {
            Peer::Server(server) => match (&server.name, server.key.clone().unwrap_or_default()) {
                (Some(name), key) => (name, format!("{} {key}", server.address)),
                (None, key) => (&server.address, key),
            },
            Peer::Client(client) => {
                let details =
                    format!("client {:?} from {}, {}", client.name, client.from, client.key);
                (client.key_name.as_ref().unwrap_or(&client.key), details)
            }
        };
        let loss = status.last_loss.as_ref().map(|loss| ShownLoss {
            lost_at: unix_ms(loss.lost_at),
            kind: loss.kind.clone(),
            why: self.text(&loss.why),
            outage_ms: loss.outage.map(|outage| outage.as_secs_f64() * 1e3),
            replayed_bytes: loss.replayed_bytes,
        });
        ShownTunnel {
            number,
            who: self.who(who, &tunnel),
            tunnel,
            details: self.text(&details),
            state: status.state,
            state_since_at: unix_ms(status.state_since_at),
            why: self.text(status.why.as_deref().unwrap_or_default()),
            path: self.text(&status.carrier.as_ref().map(path).unwrap_or_default()),
            round_trip_us: status.carrier.as_ref().and_then(|it| it.round_trip).map(micros),
            carriers: status.carriers,
            sent_bytes: status.sent_bytes,
            received_bytes: status.received_bytes,
            loss,
            session_count: overview.sessions,
            sessions: status.sessions.iter().map(|it| self.session(it)).collect(),
        }
    }

    fn ended(self, number: usize, ended: &EndedServer) -> ShownEnd {
        let who = match self.has_names {
            true => self.text(&ended.server),
            false => format!("server {}", number + 1),
        };
        ShownEnd { who, why: self.text(&ended.why), ended_at: unix_ms(ended.ended_at) }
    }

    fn session(self, session: &SessionStatus) -> ShownSession {
        ShownSession {
            session: session.session,
            stage: session.stage,
            target: self.text(&session.target),
            from: self.text(session.from.as_deref().unwrap_or_default()),
            opened_at: unix_ms(session.opened_at),
            sent_bytes: session.sent_bytes,
            received_bytes: session.received_bytes,
            waiting_bytes: session.queued_bytes + session.undelivered_bytes,
        }
    }
}

fn path(carrier: &CarrierStatus) -> String {
    let via = carrier.interface.as_ref().map_or_else(String::new, |it| format!(" via {it}"));
    format!("{} to {}{via}", carrier.local, carrier.peer)
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

fn unix_ms(time: SystemTime) -> u64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[derive(Serialize)]
struct ShownState<'a> {
    has_names: bool,
    role: &'a str,
    host: String,
    version: &'static str,
    started_at: u64,
    now: u64,
    counted_since: u64,
    is_draining: bool,
    restarts: u64,
    sums: &'a ShownSums,
    pauses: Vec<ShownPause>,
    tunnels: &'a [ShownTunnel],
    ended: Vec<ShownEnd>,
}

/// A server whose tunnel has ended for good.
#[derive(Serialize)]
struct ShownEnd {
    who: String,
    why: String,
    ended_at: u64,
}

#[derive(Clone, Copy, Default, Debug, Serialize)]
struct ShownSums {
    tunnels: usize,
    attached: usize,
    sessions: usize,
    sent_bytes: u64,
    received_bytes: u64,
    replayed_bytes: u64,
}

#[derive(Serialize)]
struct ShownPause {
    number: u64,
    ended_at: u64,
    length_ms: f64,
    who: String,
    why: String,
}

#[derive(Serialize)]
struct ShownTunnel {
    /// Tells tunnels apart that have no id yet: those of a client with several servers.
    number: usize,
    tunnel: String,
    who: String,
    details: String,
    state: TunnelCondition,
    state_since_at: u64,
    why: String,
    path: String,
    round_trip_us: Option<u64>,
    carriers: u64,
    sent_bytes: u64,
    received_bytes: u64,
    loss: Option<ShownLoss>,
    session_count: usize,
    sessions: Vec<ShownSession>,
}

#[derive(Serialize)]
struct ShownLoss {
    lost_at: u64,
    kind: String,
    why: String,
    outage_ms: Option<f64>,
    replayed_bytes: u64,
}

#[derive(Serialize)]
struct ShownSession {
    session: u32,
    stage: SessionStage,
    target: String,
    from: String,
    opened_at: u64,
    sent_bytes: u64,
    received_bytes: u64,
    waiting_bytes: u64,
}

#[cfg(test)]
mod tests {
    use eternaltcp::status::{EventKind, TunnelEvent};
    use serde_json::Value;

    use super::*;

    #[test]
    fn a_text_of_a_peer_is_cleaned_and_cut() {
        let writer = TextWriter { has_names: true };
        assert_eq!(writer.text("a\u{202e}b\nc"), "a b c");
        let long = writer.text(&"ä".repeat(5000));
        assert_eq!(long.chars().count(), MAX_TEXT + 1);
    }

    /// A tunnel, with the names that the metrics do not show.
    const TUNNEL: &str = r#"{"tunnel":"33d69d2a","client":{"key":"SHA256:SECRET","key_name":"ann",
        "from":"192.0.2.7:1","name":"laptop","user":"1000","machine":"f00"},"started_at":1,
        "state":"detached","state_since_at":2,"why":"reset by 192.0.2.7","carrier":{
        "local":"192.0.2.1:2","peer":"192.0.2.7:3","interface":"wlan0","round_trip_us":5,
        "deviation_us":5,"silent_ms":5},"carriers":1,"sent_bytes":1,"received_bytes":2,
        "queued_bytes":3,"undelivered_bytes":4,"replayed_bytes":5,"last_loss":{"lost_at":3,
        "kind":"reset","why":"reset by 192.0.2.7","outage_ms":null,"replayed_bytes":0},
        "sessions":[{"session":7,"stage":"open","from":"192.0.2.9:1","target":"db:5432",
        "opened_at":4,"sent_bytes":1,"received_bytes":2,"queued_bytes":3,"undelivered_bytes":4}]}"#;

    fn shown(has_names: bool) -> (String, Value) {
        let status = serde_json::from_str(TUNNEL).unwrap();
        let event = |tunnel: &str| TunnelEvent {
            kind: EventKind::Back,
            tunnel: Some(tunnel.to_owned()),
            server_name: None,
            peer: "SHA256:OTHER".to_owned(),
            path: Some("192.0.2.7".to_owned()),
            why: "reset by 192.0.2.7".to_owned(),
            outage: None,
            replayed: 0,
            sessions: 0,
        };
        let pauses = ["33d69d2a", "77777777"].map(|tunnel| PastPause {
            number: 0,
            ended_at: SystemTime::UNIX_EPOCH,
            length: Duration::from_millis(1500),
            event: event(tunnel),
        });
        let state = ObservedState {
            role: "sproxy".to_owned(),
            started_at: SystemTime::UNIX_EPOCH,
            now: SystemTime::UNIX_EPOCH,
            counted_since: SystemTime::UNIX_EPOCH,
            is_draining: false,
            sums: ShownSums::default(),
            tunnels: vec![TunnelOverview { status, sessions: 900 }],
            ended: vec![EndedServer {
                server: "annex".to_owned(),
                why: "192.0.2.7 does not know the key\n".to_owned(),
                ended_at: SystemTime::UNIX_EPOCH + Duration::from_secs(1),
            }],
        };
        let json = state.json(&pauses, has_names).unwrap();
        (json.clone(), serde_json::from_str(&json).unwrap())
    }

    #[test]
    fn a_tunnel_has_the_name_of_its_key_and_the_number_of_its_sessions() {
        let (_, state) = shown(true);
        let tunnel = &state["tunnels"][0];
        assert_eq!((&tunnel["who"], &tunnel["session_count"]), (&"ann".into(), &900.into()));
        assert_eq!(tunnel["sessions"][0]["target"], "db:5432");
        assert_eq!(tunnel["sessions"][0]["waiting_bytes"], 7);
        assert_eq!(state["pauses"][0]["who"], "ann");
        let ended = &state["ended"][0];
        assert_eq!((&ended["who"], &ended["ended_at"]), (&"annex".into(), &1000.into()));
        assert_eq!(ended["why"], "192.0.2.7 does not know the key ");
        assert_eq!(state["pauses"][1]["who"], "SHA256:OTHER");
        assert_eq!(state["pauses"][1]["length_ms"], 1500.0);
    }

    #[test]
    fn whoever_may_not_see_names_sees_none() {
        let (json, state) = shown(false);
        for secret in ["192.0.2", "SHA256", "ann", "laptop", "wlan0", "db:", "f00"] {
            assert!(!json.contains(secret), "{secret}: {json}");
        }
        assert_eq!(state["tunnels"][0]["who"], "tunnel 33d69d2a");
        assert_eq!(
            (&state["ended"][0]["who"], &state["ended"][0]["why"]),
            (&"server 1".into(), &"".into())
        );
        assert_eq!(state["tunnels"][0]["loss"]["kind"], "reset");
        assert_eq!(state["host"], "");
    }
}

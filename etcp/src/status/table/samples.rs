//! Answers of programs for tests.

use std::time::{Duration, SystemTime};

use eternaltcp::control::{ProcessStatus, ProxyKind};
use eternaltcp::status::{
    CarrierStatus, Loss, Peer, ServerPeer, SessionStage, SessionStatus, TunnelCondition,
    TunnelStatus,
};

pub(in super::super) const NOW: Duration = Duration::from_secs(1_764_000_000);

pub(in super::super) fn ago(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + NOW - Duration::from_secs(seconds)
}

pub(in super::super) fn session(number: u32) -> SessionStatus {
    SessionStatus {
        session: number,
        stage: SessionStage::Open,
        from: Some(format!("127.0.0.1:{}", 40_000 + number)),
        target: "localhost:5432".to_owned(),
        opened_at: ago(30),
        sent_bytes: 1200,
        received_bytes: u64::from(number),
        queued_bytes: 0,
        undelivered_bytes: 0,
    }
}

pub(in super::super) fn tunnel() -> TunnelStatus {
    TunnelStatus {
        tunnel: Some("33d69d2a".to_owned()),
        peer: Peer::Server(ServerPeer {
            address: "example.org:6200".to_owned(),
            dials: 7,
            doubts: 3,
            false_alarms: 1,
            spare: Some("10.0.0.2 via eth0".to_owned()),
            ..ServerPeer::default()
        }),
        started_at: ago(7200),
        state: TunnelCondition::Attached,
        state_since_at: ago(720),
        why: None,
        carrier: Some(CarrierStatus {
            local: "192.0.2.7:51742".parse().unwrap(),
            peer: "198.51.100.1:6200".parse().unwrap(),
            interface: Some("wlan0".to_owned()),
            joined: 3,
            quiet: false,
            small_segments: false,
            round_trip: Some(Duration::from_micros(23_400)),
            deviation: Some(Duration::from_micros(4_100)),
            silent: Some(Duration::from_millis(300)),
        }),
        standby: Some(CarrierStatus {
            local: "10.0.0.2:40404".parse().unwrap(),
            peer: "198.51.100.1:6200".parse().unwrap(),
            interface: Some("eth0".to_owned()),
            joined: 0,
            quiet: true,
            small_segments: false,
            round_trip: Some(Duration::from_micros(41_000)),
            deviation: None,
            silent: Some(Duration::from_secs(9)),
        }),
        carriers: 5,
        sent_bytes: 12_000_000,
        received_bytes: 340_000_000,
        queued_bytes: 0,
        undelivered_bytes: 0,
        replayed_bytes: 48_000,
        last_loss: Some(Loss {
            lost_at: ago(720),
            kind: "silent".to_owned(),
            why: "silent for 3s".to_owned(),
            outage: Some(Duration::from_millis(310)),
            replayed_bytes: 48_000,
        }),
        sessions: vec![session(1), session(3)],
    }
}

pub(in super::super) fn process(tunnels: Vec<TunnelStatus>) -> ProcessStatus {
    ProcessStatus {
        role: ProxyKind::Cproxy,
        about: None,
        user: None,
        process: 4711,
        holder_pid: Some(4711),
        worker_pid: Some(4712),
        restarts: 0,
        last_restart: None,
        program_version: "0.1.0".to_owned(),
        started_at: ago(10_800),
        listen: vec!["127.0.0.1:5200".to_owned()],
        forwards: Vec::new(),
        metrics: Vec::new(),
        ended: Vec::new(),
        is_draining: false,
        tunnels,
    }
}

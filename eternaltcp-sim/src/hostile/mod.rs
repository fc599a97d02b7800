//! A peer that knows the protocol and breaks it where a fuzzer says so: good handshakes with
//! changed fields, then any packet in any order, on attached, standby and joined carriers. The
//! other side must neither panic nor hold more than its limits, and a later good carrier must still
//! be accepted.

mod input;
mod peer;

use std::time::Duration;

use bytes::Bytes;
use eternaltcp_proto::{
    Acceptor, CarrierId, Config, Delivery, Instance, Intent, Progress, READ_SIZE, RESERVE, Side,
    StandbyConfig, Time, Tunnel, TunnelId, Violation,
};

use input::{FuzzInput, packet};
use peer::{JOIN, Knowledge, OPEN, STANDBY, first_of};

const TUNNEL: TunnelId = TunnelId([7; 16]);

/// The time for which a standby carrier may be silent.
const SILENCE: Duration = Duration::from_secs(45);

/// Steps of one run: longer runs find no more.
const STEPS: usize = 200;

/// The maximum number of sessions that an acceptor accepts in a request here.
const MAX_NUMBERS: usize = 64;

/// The progress of a run, with which tests check that not all runs end at the start.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Reached {
    /// Carriers that were attached.
    pub attached: u32,
    /// Carriers that joined.
    pub joined: u32,
    /// Detected violations.
    pub violations: u32,
    /// Requests to be quiet that were granted.
    pub quiet: u32,
    /// Payload bytes that were delivered.
    pub delivered: u64,
}

/// Runs a hostile peer against a tunnel of this side.
pub fn peer(side: Side, data: &[u8]) -> Reached {
    let mut input = FuzzInput::new(data);
    let mut attack = Attack::new(side);
    attack.attach(&mut input);
    for _ in 0..STEPS {
        if input.is_empty() {
            break;
        }
        attack.step(&mut input);
        attack.check();
    }
    attack.end_well();
    attack.reached
}

/// The attacked tunnel, and its peer's knowledge.
struct Attack {
    side: Side,
    now: Time,
    tunnel: Tunnel,
    joined: Vec<CarrierId>,
    known: Knowledge,
    reached: Reached,
}

fn config() -> Config {
    Config {
        tunnel_limit: 20 * RESERVE,
        session_limit: RESERVE,
        max_session_limit: 2 * RESERVE,
        max_sessions: 12,
        max_joined: 2,
        ..Config::default()
    }
}

fn intent() -> Intent {
    Intent::New { enrol: Bytes::from_static(b"key"), instance: Instance::default() }
}

impl Attack {
    fn new(side: Side) -> Self {
        Self {
            side,
            now: Time::ZERO,
            tunnel: Tunnel::new(side, config()),
            joined: Vec::new(),
            known: Knowledge::new(side),
            reached: Reached::default(),
        }
    }

    fn step(&mut self, input: &mut FuzzInput<'_>) {
        match input.byte() % 16 {
            0 => self.attach(input),
            1 => self.stand_by(input),
            2 => {
                self.tunnel.detach();
                self.joined.clear();
            }
            3 => self.pass_time(input),
            4 | 5 => self.read(),
            6 | 7 => self.serve(),
            8 => self.open_own(),
            9 | 10 => self.say_beside(input),
            _ => self.say(input),
        }
    }

    /// Passes input of its lead to the tunnel.
    fn hear(&mut self, bytes: Bytes) -> Result<(), Violation> {
        self.tunnel.lead().map_or(Ok(()), |lead| self.tunnel.handle_input(self.now, lead, bytes))
    }

    /// Sends any packet on the lead.
    fn say(&mut self, input: &mut FuzzInput<'_>) {
        let bytes = self.known.packet(input);
        let was_quiet = self.tunnel.is_quiet();
        let result = self.hear(bytes);
        self.reached.quiet += u32::from(self.tunnel.is_quiet() && !was_quiet);
        if result.is_err() {
            self.reached.violations += 1;
            assert!(!self.tunnel.is_attached(), "it goes on after a violation");
            self.joined.clear();
        }
    }

    /// Sends any packet on a joined carrier, mostly data.
    fn say_beside(&mut self, input: &mut FuzzInput<'_>) {
        if self.joined.is_empty() {
            return self.say(input);
        }
        let id = self.joined[usize::from(input.byte()) % self.joined.len()];
        let bytes = self.known.packet_beside(input);
        if self.tunnel.handle_input(self.now, id, bytes).is_err() {
            self.reached.violations += 1;
            assert!(!self.tunnel.is_attached(), "it goes on after a violation");
            self.joined.clear();
        }
    }

    /// Attaches a new carrier.
    fn attach(&mut self, input: &mut FuzzInput<'_>) {
        match self.side {
            Side::Server => {
                let epoch = input.near_long(self.tunnel.epoch().0.saturating_add(1));
                let mut acceptor = Acceptor::new(MAX_NUMBERS);
                let request = self.known.request(input, epoch, TUNNEL);
                self.ask(&mut acceptor, request, input);
                self.take_request(acceptor);
            }
            Side::Client => {
                self.tunnel.attach(self.now, intent);
                self.joined.clear();
                self.read();
                self.answer_attach(input);
            }
        }
    }

    fn answer_attach(&mut self, input: &mut FuzzInput<'_>) {
        // An earlier answer may have given it another name.
        let id = self.tunnel.id().unwrap_or(TUNNEL);
        let answer = self.known.answer(input, self.tunnel.epoch().0, id);
        for bytes in answer {
            if self.hear(bytes).is_err() {
                self.reached.violations += 1;
                return assert!(!self.tunnel.is_attached());
            }
        }
        self.reached.attached += u32::from(self.tunnel.is_attached());
    }

    /// Passes a request to an acceptor in two parts. Returns whether it takes more.
    fn ask(&mut self, acceptor: &mut Acceptor, request: Bytes, input: &mut FuzzInput<'_>) -> bool {
        let cut = usize::from(input.byte()) * 4 % (request.len() + 1);
        for part in [request.slice(..cut), request.slice(cut..)] {
            acceptor.handle_input(part);
            loop {
                match acceptor.poll() {
                    Ok(Progress::Hello(_)) => {}
                    Ok(Progress::Standby(_)) => acceptor.let_stand_by(self.now, SILENCE),
                    Ok(Progress::More) => break,
                    Ok(Progress::Complete | Progress::Join) | Err(_) => return false,
                }
            }
            let due = std::iter::from_fn(|| acceptor.poll_transmit()).count();
            assert!(due <= 2, "{due} packets wait");
        }
        true
    }

    fn take_request(&mut self, acceptor: Acceptor) {
        let Some(request) = acceptor.into_request() else { return };
        let (was_attached, epoch) = (self.tunnel.is_attached(), self.tunnel.epoch());
        if self.tunnel.handle_attach(self.now, TUNNEL, request).is_ok() {
            assert!(self.tunnel.epoch() > epoch, "the epoch only rises");
            self.reached.attached += 1;
            self.joined.clear();
        } else {
            assert_eq!(self.tunnel.is_attached(), was_attached, "a refused attach changes nothing");
        }
        self.read();
    }

    /// Makes a carrier stand by, and then join or be attached.
    fn stand_by(&mut self, input: &mut FuzzInput<'_>) {
        match self.side {
            Side::Server => {
                let mut acceptor = Acceptor::new(MAX_NUMBERS);
                let request = self.known.standby(input, TUNNEL);
                if !self.ask(&mut acceptor, request, input) {
                    return;
                }
                let epoch = self.tunnel.epoch().0;
                if !input.byte().is_multiple_of(4) {
                    let request = packet(JOIN, 0, 0, 0, &input.near_long(epoch).to_le_bytes());
                    self.ask(&mut acceptor, request, input);
                    let joined = acceptor.into_join();
                    let joined = joined.and_then(|it| self.tunnel.handle_join(it).ok());
                    self.note_joined(joined);
                } else {
                    let epoch = input.near_long(epoch.wrapping_add(1));
                    let request = self.known.request(input, epoch, TUNNEL);
                    self.ask(&mut acceptor, request, input);
                    self.take_request(acceptor);
                }
            }
            Side::Client => self.stand_by_client(input),
        }
    }

    fn stand_by_client(&mut self, input: &mut FuzzInput<'_>) {
        let Some(id) = self.tunnel.stand_by(self.now, StandbyConfig::default()) else { return };
        while self.tunnel.poll_transmit(self.now, id).is_some() {}
        let mut payload = 1_u32.to_le_bytes().to_vec();
        payload.extend(input.near_long(45_000).to_le_bytes());
        input.damage(&mut payload);
        let answer = packet(input.near(STANDBY), 0, 0, 0, &payload);
        let was_attached = self.tunnel.is_attached();
        if self.tunnel.handle_input(self.now, id, answer).is_err() {
            assert!(!self.tunnel.has_carrier(id), "it is over");
            return assert_eq!(self.tunnel.is_attached(), was_attached, "nothing else is");
        }
        if !input.byte().is_multiple_of(4) {
            if self.tunnel.join(self.now, id).is_err() {
                return self.tunnel.handle_lost(id);
            }
            while self.tunnel.poll_transmit(self.now, id).is_some() {}
            let epoch = input.near_long(self.tunnel.epoch().0);
            let answer = packet(JOIN, 0, 0, 0, &epoch.to_le_bytes());
            let result = self.tunnel.handle_input(self.now, id, answer);
            self.note_joined(result.is_ok().then_some(id));
            if result.is_err() {
                self.joined.clear();
            }
        } else if self.tunnel.attach_standby(self.now, id).is_ok() {
            self.joined.clear();
            self.read();
            self.answer_attach(input);
        } else {
            self.tunnel.handle_lost(id);
        }
    }

    fn note_joined(&mut self, joined: Option<CarrierId>) {
        self.reached.joined += u32::from(joined.is_some());
        self.joined.extend(joined);
    }

    fn pass_time(&mut self, input: &mut FuzzInput<'_>) {
        self.now = self.now + Duration::from_millis(u64::from(input.byte()) * 16);
        self.tunnel.handle_timeout(self.now);
        if !self.tunnel.is_attached() {
            self.joined.clear();
        }
    }

    /// Lets the peer read the available output, and learn from it.
    fn read(&mut self) {
        for id in self.tunnel.lead().iter().chain(&self.joined) {
            while let Some(transmit) = self.tunnel.poll_transmit(self.now, *id) {
                self.known.learn(&transmit);
            }
        }
    }

    /// Serves the local sockets as a driver does.
    fn serve(&mut self) {
        let now = self.now;
        while self.tunnel.poll_event().is_some() {}
        for id in self.tunnel.session_ids().collect::<Vec<_>>() {
            self.tunnel.accept(now, id);
            if self.tunnel.capacity(id) >= 100 {
                self.tunnel.write(now, id, Bytes::from_static(&[5; 100]));
            }
            let (data, is_end, is_reset) = match self.tunnel.delivery(id) {
                Delivery::Nothing => (0, false, false),
                Delivery::Data(data) => (data.len().div_ceil(2), false, false),
                Delivery::End => (0, true, false),
                Delivery::Reset(_) => (0, false, true),
            };
            self.reached.delivered += data as u64;
            match (is_end, is_reset) {
                (true, _) => self.tunnel.delivered_ending(now, id),
                (_, true) => self.tunnel.delivered_ending(now, id),
                _ => self.tunnel.delivered(now, id, data),
            }
        }
        self.tunnel.compact();
    }

    /// Opens a session on this side, and ends an older one.
    fn open_own(&mut self) {
        if let Ok(id) = self.tunnel.open(Bytes::from_static(b"\0")) {
            self.tunnel.write(self.now, id, Bytes::from_static(&[5; 100]));
            if id.get() % 8 < 3 {
                self.tunnel.finish(self.now, id);
            }
        }
    }

    fn check(&self) {
        assert!(self.tunnel.is_consistent());
        let most = config().tunnel_limit * 3 + READ_SIZE as u64 * 2;
        assert!(self.tunnel.held() <= most, "holds {} of {most}", self.tunnel.held());
        let words = self.tunnel.words_waiting();
        let most = 8 * (self.tunnel.session_count() + STEPS);
        assert!(words <= most, "{words} words wait, of {most}");
    }

    /// Checks that a good carrier is accepted in any case, and that a session on it works.
    fn end_well(&mut self) {
        self.tunnel.detach();
        self.joined.clear();
        if self.tunnel.is_closed() || self.tunnel.epoch().0 >= u64::MAX - 1 {
            return;
        }
        let none = &mut FuzzInput::new(&[]);
        self.known.clear();
        self.attach(none);
        assert!(self.tunnel.is_attached(), "a good carrier is taken");
        self.check();
        let Some(id) = self.known.fresh(first_of(self.side)) else { return };
        let open = packet(OPEN, id, 0, 0, b"\0");
        let result = self.hear(open);
        assert_eq!(result, Ok(()), "a good session is taken");
        assert!(self.tunnel.session_ids().any(|known| known.get() == id));
        self.serve();
        self.read();
        self.check();
    }
}

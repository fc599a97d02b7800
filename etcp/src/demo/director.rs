//! The sequence of the demo: a stream both ways, and the deaths of its carriers.
//!
//! Nothing here happens at a fixed time. A carrier is broken once it carries bytes both ways, and
//! its death counts once another carrier is attached.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use eternaltcp::report::{bytes, duration};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout_at};

use super::death::{DemoDeath, PLAN};
use super::link::RelayLink;
use super::outcome::DemoOutcome;
use super::screen::{DemoProgress, Paint, Screen};
use super::stage::DemoSetup;
use super::talk::{self, ByteCounts};

/// Interval between two checks of the tunnel.
const LOOK: Duration = Duration::from_millis(5);

/// A carrier counts as working once it has carried enough bytes each way, and for this long.
const WORKED_TIME: Duration = Duration::from_millis(150);

/// The states of the demo, as shown to the user.
const CARRYING: &str = "carrying";
const ENDING: &str = "ending";

/// Runs the demo on a stage.
pub(super) struct Director<'a> {
    stage: &'a DemoSetup,
    screen: &'a mut Screen,
    deadline: Instant,
    /// Correct bytes that arrived at the target and at the application.
    received: [Arc<AtomicU64>; 2],
    deaths: Vec<DemoDeath>,
}

/// The two ends of the session.
struct Talks {
    application: JoinHandle<Result<ByteCounts, String>>,
    target: JoinHandle<Result<ByteCounts, String>>,
    stop: oneshot::Sender<()>,
}

/// The state of the tunnel at one check.
struct TunnelSnapshot {
    is_attached: bool,
    attaches: u64,
    link: Option<Arc<RelayLink>>,
    /// The bytes that a working link has forwarded each way.
    worked_bytes: u64,
}

impl<'a> Director<'a> {
    /// Creates a director. `deadline` ends the demo, whatever it is waiting for.
    pub(super) fn new(stage: &'a DemoSetup, screen: &'a mut Screen, deadline: Instant) -> Self {
        Self { stage, screen, deadline, received: Default::default(), deaths: Vec::new() }
    }

    /// Runs the demo and returns its outcome.
    pub(super) async fn run(mut self) -> DemoOutcome {
        let mut outcome = DemoOutcome::default();
        let played = self.play(&mut outcome).await;
        outcome.trouble = played.err();
        outcome.deaths = self.deaths;
        if let Ok(Some(stats)) = timeout_at(self.deadline, self.stage.client.stats()).await {
            outcome.carriers = stats.attaches;
            outcome.replayed[0] = Some(stats.replayed_bytes);
        }
        if let Ok(replayed) = timeout_at(self.deadline, self.stage.replayed_by_server()).await {
            outcome.replayed[1] = replayed;
        }
        outcome
    }

    async fn play(&mut self, outcome: &mut DemoOutcome) -> Result<(), String> {
        let talks = self.start_talks().await?;
        let result = self.break_all(&talks).await;
        // A failed stream explains better what happened than the task that waited for it.
        match result {
            Ok(()) => self.end_talks(talks, outcome).await,
            Err(why) => Err(talks.failure().await.unwrap_or(why)),
        }
    }

    async fn start_talks(&mut self) -> Result<Talks, String> {
        let failed = |error: std::io::Error| format!("the session could not be opened: {error}");
        let connecting = TcpStream::connect(self.stage.entrance);
        let application = connecting.await.map_err(failed)?;
        let accepted = timeout_at(self.deadline, self.stage.target.accept()).await;
        let accepted = accepted.map_err(|_| "the target was not reached in time".to_owned())?;
        let (target, _) = accepted.map_err(failed)?;
        let (stop, stopped) = oneshot::channel();
        let [to_target, to_application] = self.received.clone();
        Ok(Talks {
            application: tokio::spawn(talk::application(application, to_application, stopped)),
            target: tokio::spawn(talk::target(target, to_target)),
            stop,
        })
    }

    async fn break_all(&mut self, talks: &Talks) -> Result<(), String> {
        for death in PLAN {
            // A link that ends by itself while it is being broken does not count.
            while !self.break_one(death, talks).await? {}
        }
        self.until(CARRYING, talks, TunnelSnapshot::has_worked).await?;
        Ok(())
    }

    /// Breaks the carrier once it works, and waits for the next one. Returns whether this killed
    /// it.
    async fn break_one(&mut self, death: DemoDeath, talks: &Talks) -> Result<bool, String> {
        let before = self.until(CARRYING, talks, TunnelSnapshot::has_worked).await?;
        let Some(link) = before.link else { return Ok(false) };
        let start = Instant::now();
        link.kill(death);
        let is_next = |view: &TunnelSnapshot| {
            let is_other = view.link.as_ref().is_some_and(|next| next.number() > link.number());
            view.is_attached && view.attaches > before.attaches && is_other
        };
        self.until(&format!("broken: {death}"), talks, is_next).await?;
        let is_killed = link.is_killed();
        if is_killed {
            self.deaths.push(death);
            let count = self.deaths.len();
            let pause = duration(start.elapsed());
            let text = format!("  {count:>2}  {death:<26} attached again after {pause}");
            self.screen.line(Paint::Plain, &text);
        }
        Ok(is_killed)
    }

    /// Checks until `is_done`, and shows the progress and the state.
    async fn until(
        &mut self,
        state: &str,
        talks: &Talks,
        is_done: impl Fn(&TunnelSnapshot) -> bool,
    ) -> Result<TunnelSnapshot, String> {
        loop {
            let view = self.look(state).await?;
            if is_done(&view) {
                return Ok(view);
            }
            if talks.application.is_finished() || talks.target.is_finished() {
                return Err("a stream ended too early".to_owned());
            }
            self.show(state);
            sleep(LOOK).await;
        }
    }

    async fn look(&self, state: &str) -> Result<TunnelSnapshot, String> {
        if Instant::now() >= self.deadline {
            return Err(format!("the time was over before the end ({state})"));
        }
        let stats = timeout_at(self.deadline, self.stage.client.stats()).await;
        let stats = stats.map_err(|_| "cproxy does not answer".to_owned())?;
        let stats = stats.ok_or("cproxy has ended")?;
        Ok(TunnelSnapshot {
            is_attached: self.stage.client.is_attached(),
            attaches: stats.attaches,
            link: self.stage.relay.newest(),
            worked_bytes: self.stage.worked_bytes(),
        })
    }

    fn show(&mut self, state: &str) {
        let [up, down] = &self.received;
        let received = [up, down].map(|count| count.load(Ordering::Relaxed));
        let (done, planned) = (self.deaths.len(), PLAN.len());
        self.screen.progress(&DemoProgress { done, planned, received, state });
    }

    /// Ends both streams: the application's first, then the target's.
    async fn end_talks(&mut self, talks: Talks, outcome: &mut DemoOutcome) -> Result<(), String> {
        let Talks { application, target, stop } = talks;
        // The failure of an application is reported below.
        let _ = stop.send(());
        let tail = bytes(talk::TAIL);
        let text = format!("The application ends its stream; the target sends {tail} more.");
        self.screen.line(Paint::Plain, "");
        self.screen.line(Paint::Plain, &text);
        while !(application.is_finished() && target.is_finished()) {
            self.look(ENDING).await?;
            self.show(ENDING);
            sleep(LOOK).await;
        }
        outcome.application = Some(join(application).await?);
        outcome.target = Some(join(target).await?);
        Ok(())
    }
}

impl TunnelSnapshot {
    /// Returns whether a carrier is attached and has carried bytes both ways.
    fn has_worked(&self) -> bool {
        let has_carried = |link: &Arc<RelayLink>| {
            let enough =
                link.forwarded() >= self.worked_bytes && link.since().elapsed() >= WORKED_TIME;
            link.is_open() && enough
        };
        self.is_attached && self.link.as_ref().is_some_and(has_carried)
    }
}

impl Talks {
    /// Returns the reason why a stream failed, if one did.
    async fn failure(self) -> Option<String> {
        for talk in [self.application, self.target] {
            if talk.is_finished() {
                if let Err(why) = join(talk).await {
                    return Some(why);
                }
            } else {
                talk.abort();
            }
        }
        None
    }
}

async fn join(talk: JoinHandle<Result<ByteCounts, String>>) -> Result<ByteCounts, String> {
    talk.await.unwrap_or_else(|error| Err(format!("a stream failed: {error}")))
}

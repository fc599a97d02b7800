//! Finds the states of a machine, and draws its table.

use std::collections::VecDeque;
use std::fmt::Write;

use eternaltcp_proto::Violation;

use super::world::{Applied, StateOutcome, StateWorld};

/// An event and its name.
pub(super) type StateEvent = (&'static str, fn(&mut StateWorld) -> StateOutcome);

/// One table: its first state, the possible events, and how a state is shown.
pub(super) struct Machine {
    pub(super) title: &'static str,
    pub(super) starts: &'static [fn() -> StateWorld],
    pub(super) events: &'static [StateEvent],
    pub(super) state: fn(StateWorld) -> String,
}

/// The way to a state: the first state, and the events after it.
#[derive(Clone)]
struct StateRoute {
    start: fn() -> StateWorld,
    events: Vec<fn(&mut StateWorld) -> StateOutcome>,
}

impl StateRoute {
    fn world(&self) -> StateWorld {
        let mut world = (self.start)();
        for event in &self.events {
            assert!(event(&mut world).is_ok(), "a route has no violation");
        }
        world.fresh.clear();
        world
    }

    fn then(&self, event: fn(&mut StateWorld) -> StateOutcome) -> Self {
        let mut route = self.clone();
        route.events.push(event);
        route
    }
}

impl Machine {
    /// Tries every event in every state, and draws the results.
    pub(super) fn explore(&self) -> String {
        let mut seen: Vec<String> = Vec::new();
        let mut waiting: VecDeque<(String, StateRoute)> = VecDeque::new();
        for start in self.starts {
            let route = StateRoute { start: *start, events: Vec::new() };
            self.meet(&mut seen, &mut waiting, route);
        }
        let mut table = self.heading();
        while let Some((state, route)) = waiting.pop_front() {
            write!(table, "| **{state}** |").unwrap_or_default();
            for (_, event) in self.events {
                let cell = self.cell(&mut seen, &mut waiting, &state, &route, *event);
                write!(table, " {cell} |").unwrap_or_default();
            }
            table.push('\n');
        }
        table
    }

    fn heading(&self) -> String {
        let names: Vec<&str> = self.events.iter().map(|(name, _)| *name).collect();
        format!("# {}\n\n{LEGEND}\n\n", self.title)
            + &format!("| state | {} |\n", names.join(" | "))
            + &format!("|---|{}\n", "---|".repeat(names.len()))
    }

    fn meet(
        &self,
        seen: &mut Vec<String>,
        waiting: &mut VecDeque<(String, StateRoute)>,
        route: StateRoute,
    ) -> String {
        let state = (self.state)(route.world());
        if !seen.contains(&state) {
            seen.push(state.clone());
            if state != GONE && state != OVER {
                waiting.push_back((state.clone(), route));
            }
        }
        state
    }

    fn cell(
        &self,
        seen: &mut Vec<String>,
        waiting: &mut VecDeque<(String, StateRoute)>,
        state: &str,
        route: &StateRoute,
        event: fn(&mut StateWorld) -> StateOutcome,
    ) -> String {
        let mut world = route.world();
        match event(&mut world) {
            Err(violation) => format!("✗ {}", violation_name(&violation)),
            Ok(Applied::No) => "–".into(),
            Ok(Applied::Yes) => {
                let sends: Vec<String> =
                    world.fresh.iter().map(|kind| format!("`{kind:?}`").to_lowercase()).collect();
                let next = self.meet(seen, waiting, route.then(event));
                let next = if next == state { "·".into() } else { next };
                if sends.is_empty() { next } else { format!("{next}; {}", sends.join(" ")) }
            }
        }
    }
}

/// A session without a record.
pub(super) const GONE: &str = "gone";

/// The end of the opening's table: the other tables continue from here.
pub(super) const OVER: &str = "over";

const LEGEND: &str = "What each event does in each state: the state after it, then the numbered packets sent.\n\
`·` stays; `–` cannot occur; `✗` ends the carrier; *gone*: the session has no record.";

fn violation_name(violation: &Violation) -> String {
    let text = format!("{violation:?}");
    text.split(|c: char| !c.is_alphanumeric()).next().unwrap_or_default().to_owned()
}

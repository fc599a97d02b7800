//! The result of a demo, and whether it proves what it should.

use super::death::DemoDeath;
use super::talk::ByteCounts;

/// The number of deaths, and of different kinds of death, that a demo must show.
const MIN_DEATHS: usize = 10;
const MIN_KINDS: usize = 4;

/// The result of a demo.
#[derive(Debug, Default)]
pub(super) struct DemoOutcome {
    /// The carriers that worked, were broken, and were replaced.
    pub(super) deaths: Vec<DemoDeath>,
    /// Attached carriers, as cproxy counts them.
    pub(super) carriers: u64,
    /// Bytes that cproxy and sproxy sent again, as far as they are known.
    pub(super) replayed: [Option<u64>; 2],
    /// The bytes that the application and the target sent and received, once both streams ended in
    /// order.
    pub(super) application: Option<ByteCounts>,
    pub(super) target: Option<ByteCounts>,
    /// The reason why the demo could not continue.
    pub(super) trouble: Option<String>,
}

impl DemoOutcome {
    /// Returns how many carriers died this way.
    pub(super) fn count(&self, death: DemoDeath) -> usize {
        self.deaths.iter().filter(|one| **one == death).count()
    }

    /// Returns how many different ways of dying occurred.
    pub(super) fn kinds(&self) -> usize {
        DemoDeath::ALL.iter().filter(|death| self.count(**death) > 0).count()
    }

    /// Returns how many carriers died without being broken: on a very busy machine one can be
    /// silent for too long.
    pub(super) fn unplanned(&self) -> usize {
        // The last carrier lives.
        (self.carriers as usize).saturating_sub(self.deaths.len() + 1)
    }

    /// Checks that every byte is right and that enough carriers died.
    ///
    /// # Errors
    /// Returns a line that describes the fault.
    pub(super) fn verdict(&self) -> Result<(), String> {
        if let Some(trouble) = &self.trouble {
            return Err(trouble.clone());
        }
        let (Some(application), Some(target)) = (&self.application, &self.target) else {
            return Err("a stream did not end".to_owned());
        };
        for (sender, sent, received) in [
            ("application", &application.sent, &target.received),
            ("target", &target.sent, &application.received),
        ] {
            if sent != received {
                return Err(format!(
                    "the {sender} sent {} bytes ({}), and {} ({}) arrived",
                    sent.bytes, sent.digest, received.bytes, received.digest
                ));
            }
        }
        let (deaths, kinds) = (self.deaths.len(), self.kinds());
        if deaths < MIN_DEATHS || kinds < MIN_KINDS {
            return Err(format!(
                "only {deaths} carriers died, in {kinds} ways: \
                 it takes {MIN_DEATHS} in {MIN_KINDS} ways to prove anything"
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::death::PLAN;
    use super::super::talk::Sum;
    use super::*;

    fn good() -> DemoOutcome {
        let sum = |bytes| Sum { bytes, digest: format!("{bytes:x}") };
        let account = |sent, received| ByteCounts {
            sent: sum(sent),
            received: sum(received),
            longest_pause: Duration::ZERO,
        };
        DemoOutcome {
            deaths: PLAN.to_vec(),
            application: Some(account(10, 20)),
            target: Some(account(20, 10)),
            ..DemoOutcome::default()
        }
    }

    #[test]
    fn the_plan_is_enough_when_every_byte_is_right() {
        assert_eq!(good().verdict(), Ok(()));
    }

    #[test]
    fn nine_deaths_or_three_kinds_are_not_enough() {
        let nine = DemoOutcome { deaths: PLAN[..9].to_vec(), ..good() };
        assert!(nine.verdict().unwrap_err().starts_with("only 9 carriers died, in 5 ways"));
        let deaths = [DemoDeath::Reset, DemoDeath::Close, DemoDeath::Cut].repeat(5);
        let three = DemoOutcome { deaths, ..good() };
        assert!(three.verdict().unwrap_err().starts_with("only 15 carriers died, in 3 ways"));
    }

    #[test]
    fn a_wrong_digest_a_missing_end_and_trouble_are_failures() {
        let mut wrong = good();
        wrong.target.as_mut().unwrap().received.digest = "b".to_owned();
        let error = wrong.verdict().unwrap_err();
        assert_eq!(error, "the application sent 10 bytes (a), and 10 (b) arrived");
        let endless = DemoOutcome { application: None, ..good() };
        assert_eq!(endless.verdict().unwrap_err(), "a stream did not end");
        let trouble = DemoOutcome { trouble: Some("no luck".to_owned()), ..good() };
        assert_eq!(trouble.verdict().unwrap_err(), "no luck");
    }
}

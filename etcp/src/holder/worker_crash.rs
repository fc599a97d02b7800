//! The death of a worker, and its cause.

use std::fmt;
use std::time::SystemTime;

/// The reason why a worker died.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Cause {
    /// A signal with this number.
    Signal(i32),
    /// A panic.
    Panic,
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self {
            Self::Panic => return f.write_str("a panic"),
            Self::Signal(number) => match number {
                4 => "SIGILL",
                6 => "SIGABRT",
                8 => "SIGFPE",
                9 => "SIGKILL",
                11 => "SIGSEGV",
                15 => "SIGTERM",
                number => return write!(f, "signal {number}"),
            },
        };
        f.write_str(name)
    }
}

/// The death of a worker.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct WorkerCrash {
    pub(crate) cause: Cause,
    pub(crate) at: SystemTime,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_is_named_as_in_manuals() {
        let causes = [Cause::Panic, Cause::Signal(9), Cause::Signal(11), Cause::Signal(31)];
        let texts = causes.map(|cause| cause.to_string());
        assert_eq!(texts, ["a panic", "SIGKILL", "SIGSEGV", "signal 31"]);
    }
}

//! One word for each code of the protocol, which programs that read records and metrics compare.

use std::borrow::Cow;

use eternaltcp_proto::{Cause, Closing, RefusalCode};

/// Returns the word for the cause of a reset.
pub(crate) fn cause_word(cause: Cause) -> Cow<'static, str> {
    let word = match cause {
        Cause::Application => "application",
        Cause::Refused => "refused",
        Cause::Unreachable => "unreachable",
        Cause::TimedOut => "timed-out",
        Cause::NotPermitted => "not-permitted",
        Cause::NotFound => "not-found",
        Cause::LimitReached => "limit-reached",
        Cause::Corrupt => "corrupt",
        Cause::Unresumable => "unresumable",
        Cause::Killed => "killed",
        Cause::Unsupported => "unsupported",
        Cause::TunnelOver => "tunnel-over",
        Cause::ListenFailed => "listen-failed",
        Cause::Other(code) => return format!("code-{code}").into(),
    };
    word.into()
}

/// Returns the word for the reason of a closed tunnel.
pub(crate) fn closing_word(closing: Closing) -> Cow<'static, str> {
    let word = match closing {
        Closing::Done => "done",
        Closing::Shutdown => "shutdown",
        Closing::Replaced => "replaced",
        Closing::KeyRemoved => "key-removed",
        Closing::Expired => "expired",
        Closing::Evicted => "evicted",
        Closing::Killed => "killed",
        Closing::Violation => "violation",
        Closing::Drained => "drained",
        Closing::Other(code) => return format!("code-{code}").into(),
    };
    word.into()
}

/// Returns the word for the reason of a refusal.
pub(crate) fn refusal_word(code: RefusalCode) -> Cow<'static, str> {
    let word = match code {
        RefusalCode::Version => "version",
        RefusalCode::KeyUnknown => "key-unknown",
        RefusalCode::KeyExpired => "key-expired",
        RefusalCode::KeyRestricted => "key-restricted",
        RefusalCode::Address => "address",
        RefusalCode::TunnelUnknown => "tunnel-unknown",
        RefusalCode::Stale => "stale",
        RefusalCode::LimitReached => "limit-reached",
        RefusalCode::NameTaken => "name-taken",
        RefusalCode::NotReady => "not-ready",
        RefusalCode::Draining => "draining",
        RefusalCode::Other(code) => return format!("code-{code}").into(),
    };
    word.into()
}

/// The words for the causes of resets that this version has names for.
pub(crate) const CAUSES: [&str; 13] = [
    "application",
    "refused",
    "unreachable",
    "timed-out",
    "not-permitted",
    "not-found",
    "limit-reached",
    "corrupt",
    "unresumable",
    "killed",
    "unsupported",
    "tunnel-over",
    "listen-failed",
];

/// The words for the reasons of refusals that this version has names for.
pub(crate) const REFUSALS: [&str; 11] = [
    "version",
    "key-unknown",
    "key-expired",
    "key-restricted",
    "address",
    "tunnel-unknown",
    "stale",
    "limit-reached",
    "name-taken",
    "not-ready",
    "draining",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_that_has_a_name_has_its_word_in_the_list() {
        let causes = (0..).map(Cause::from_code).take_while(|it| !matches!(it, Cause::Other(_)));
        assert!(causes.map(cause_word).eq(CAUSES));
        let codes = (0..).map(RefusalCode::from_code);
        let codes = codes.take_while(|it| !matches!(it, RefusalCode::Other(_)));
        assert!(codes.map(refusal_word).eq(REFUSALS));
    }
}

//! The reasons for which a session is reset, a tunnel is closed, or an attach is refused.

use std::fmt;

use crate::text::CleanText;
use crate::wire::{FieldWriter, Malformed, Reader, utf8};

/// Declares an enum of codes: its values on the wire and its words in a log.
macro_rules! codes {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $value:literal, $text:literal;)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub enum $name {
            $($(#[$vdoc])* $variant,)*
            /// A code that this version has no name for.
            Other(u32),
        }

        impl $name {
            /// Returns the value on the wire.
            #[must_use]
            pub const fn code(self) -> u32 {
                match self { $(Self::$variant => $value,)* Self::Other(code) => code }
            }

            /// Returns the meaning of a value on the wire.
            #[must_use]
            pub const fn from_code(code: u32) -> Self {
                match code { $($value => Self::$variant,)* other => Self::Other(other) }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match self {
                    $(Self::$variant => f.write_str($text),)*
                    Self::Other(code) => write!(f, "code {code}"),
                }
            }
        }
    };
}

codes! {
    /// The reason why a session was reset.
    Cause {
        /// The application's or the server program's own connection was reset.
        Application = 0, "the connection was reset at the other side";
        /// The target refused the connection.
        Refused = 1, "the target refused the connection";
        /// There is no route to the target.
        Unreachable = 2, "the target cannot be reached";
        /// The target did not answer in time.
        TimedOut = 3, "the target did not answer in time";
        /// This key is not permitted to reach the target.
        NotPermitted = 4, "the target is not permitted";
        /// The target's name cannot be resolved.
        NotFound = 5, "the target's name was not found";
        /// A limit is reached.
        LimitReached = 6, "a limit is reached";
        /// A digest did not match: the stream is not what was sent.
        Corrupt = 7, "the digest does not match";
        /// The two sides' numbers no longer match.
        Unresumable = 8, "the session cannot be resumed";
        /// An operator ended it.
        Killed = 9, "ended by the operator";
        /// This version does not know the form of the target.
        Unsupported = 10, "the kind of target is not supported";
        /// The tunnel is over.
        TunnelOver = 11, "the tunnel is over";
        /// The address to listen on is taken, or is not an address of the server.
        ListenFailed = 12, "the server cannot listen there";
    }
}

codes! {
    /// The reason why a tunnel was closed.
    Closing {
        /// It ended as requested.
        Done = 0, "ended as asked";
        /// The program is shutting down.
        Shutdown = 1, "the program is shutting down";
        /// A newer tunnel of the same instance took its place.
        Replaced = 2, "replaced by a newer tunnel of the same client";
        /// The key that admitted it is no longer admitted.
        KeyRemoved = 3, "its key is no longer admitted";
        /// It was detached for too long.
        Expired = 4, "detached for too long";
        /// The memory it held was needed.
        Evicted = 5, "detached tunnels held too much memory";
        /// An operator ended it.
        Killed = 6, "ended by the operator";
        /// A packet broke the protocol.
        Violation = 7, "the protocol was violated";
        /// The server ends, and has connected none of the sessions that it did not answer.
        Drained = 8, "the server takes no new sessions";
    }
}

codes! {
    /// The reason why an attach was refused.
    RefusalCode {
        /// No common protocol version.
        Version = 0, "no common protocol version";
        /// The key is not in the authorized keys.
        KeyUnknown = 1, "the key is not known";
        /// The key's `expiry-time` has passed.
        KeyExpired = 2, "the key has expired";
        /// The key's options forbid what is asked.
        KeyRestricted = 3, "the key's options forbid it";
        /// The key must not be used from this address.
        Address = 4, "the key may not be used from this address";
        /// No such tunnel, or it belongs to another key.
        TunnelUnknown = 5, "the tunnel is not known";
        /// A newer attach was already seen.
        Stale = 6, "a newer attach was seen";
        /// A limit is reached.
        LimitReached = 7, "a limit is reached";
        /// A live client already uses this name.
        NameTaken = 8, "a live client of the same name is attached";
        /// The server cannot decide at the moment.
        NotReady = 9, "the server cannot decide now";
        /// The server is about to end. It or its successor may answer another attempt.
        Draining = 10, "the server is about to end";
    }
}

/// The cause of a reset, and a line of detail.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Reset {
    /// The cause.
    pub cause: Cause,
    /// One line for a log. May be empty.
    pub detail: CleanText,
}

impl Reset {
    /// Creates a reset without detail.
    #[must_use]
    pub const fn new(cause: Cause) -> Self {
        Self { cause, detail: CleanText::empty() }
    }

    /// Creates a reset with a line for the log.
    #[must_use]
    pub fn with_detail(cause: Cause, detail: impl Into<CleanText>) -> Self {
        Self { cause, detail: detail.into() }
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        FieldWriter::default().u32(self.cause.code()).raw(self.detail.as_bytes()).finish()
    }

    pub(crate) fn decode(payload: &[u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(payload);
        let cause = Cause::from_code(reader.u32()?);
        Ok(Self { cause, detail: utf8(reader.rest())? })
    }
}

impl fmt::Display for Reset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.detail.is_empty() {
            self.cause.fmt(f)
        } else {
            write!(f, "{}: {}", self.cause, self.detail)
        }
    }
}

impl std::error::Error for Reset {}

impl Closing {
    pub(crate) fn encode(self) -> Vec<u8> {
        FieldWriter::default().u32(self.code()).finish()
    }

    pub(crate) fn decode(payload: &[u8]) -> Result<Self, Malformed> {
        Ok(Self::from_code(Reader::new(payload).u32()?))
    }
}

/// A refusal. It is typed, so that the client can explain it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Refusal {
    /// The reason.
    pub code: RefusalCode,
    /// Whether asking again is pointless. Otherwise the refusal is *for now*: the client keeps its
    /// sessions and tries again.
    pub is_final: bool,
    /// One line that tells the user what to do.
    pub advice: CleanText,
}

impl Refusal {
    /// Creates a final refusal: asking again will not change it.
    #[must_use]
    pub fn last(code: RefusalCode, advice: impl Into<CleanText>) -> Self {
        Self { code, is_final: true, advice: advice.into() }
    }

    /// Creates a refusal for now.
    #[must_use]
    pub fn for_now(code: RefusalCode, advice: impl Into<CleanText>) -> Self {
        Self { code, is_final: false, advice: advice.into() }
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        FieldWriter::default()
            .u32(self.code.code())
            .u8(u8::from(self.is_final))
            .raw(self.advice.as_bytes())
            .finish()
    }

    pub(crate) fn decode(payload: &[u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(payload);
        let code = RefusalCode::from_code(reader.u32()?);
        let is_final = reader.u8()? != 0;
        Ok(Self { code, is_final, advice: utf8(reader.rest())? })
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.advice.is_empty() {
            self.code.fmt(f)
        } else {
            write!(f, "{}: {}", self.code, self.advice)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_survive_encoding_and_unknown_ones_are_kept() {
        for code in 0..20 {
            assert_eq!(Cause::from_code(code).code(), code);
            assert_eq!(Closing::from_code(code).code(), code);
            assert_eq!(RefusalCode::from_code(code).code(), code);
        }
        assert_eq!(Cause::from_code(99).to_string(), "code 99");
    }

    #[test]
    fn reasons_survive_encoding() {
        let reset = Reset::with_detail(Cause::Refused, "127.0.0.1:23");
        assert_eq!(Reset::decode(&reset.encode()), Ok(reset));
        let refusal = Refusal::for_now(RefusalCode::Address, "connect from elsewhere");
        assert_eq!(Refusal::decode(&refusal.encode()), Ok(refusal));
        assert_eq!(Closing::decode(&Closing::Expired.encode()), Ok(Closing::Expired));
    }

    #[test]
    fn a_long_text_is_cut_between_characters() {
        let reset = Reset::with_detail(Cause::Killed, "ä".repeat(300));
        let text = Reset::decode(&reset.encode()).unwrap().detail;
        assert_eq!(text, "ä".repeat(200).as_str());
    }

    /// [TEXT-1]
    #[test]
    fn text_of_the_peer_is_cleaned_when_it_is_read() {
        let said = "at\r\nWARN forged\x1b[2J\u{9b}2J\u{202e}\u{2028}";
        let payload = FieldWriter::default().u32(0).raw(said.as_bytes()).finish();
        assert_eq!(Reset::decode(&payload).unwrap().detail, "at  WARN forged [2J 2J  ");
        let payload = FieldWriter::default().u32(0).u8(1).raw(said.as_bytes()).finish();
        assert_eq!(Refusal::decode(&payload).unwrap().advice, "at  WARN forged [2J 2J  ");
    }

    #[test]
    fn text_that_is_not_utf8_is_malformed() {
        assert_eq!(Reset::decode(&[0, 0, 0, 0, 0xff]), Err(Malformed));
        assert_eq!(Reset::decode(&[0, 0]), Err(Malformed));
    }
}

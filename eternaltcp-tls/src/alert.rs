//! Alert descriptions of TLS, which one side sends before it ends a connection (RFC 8446, section
//! 6).

use std::fmt;

/// One alert description. Unknown numbers are kept and shown as numbers.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Alert(u8);

impl Alert {
    /// No common application protocol (RFC 7301, section 3.2).
    pub(super) const NO_APPLICATION_PROTOCOL: Self = Self(120);

    /// No common parameters (RFC 8446, section 6.2).
    pub(super) const HANDSHAKE_FAILURE: Self = Self(40);

    /// No common version (RFC 8446, section 6.2).
    pub(super) const PROTOCOL_VERSION: Self = Self(70);

    /// Sent by a client whose user does not trust the server's key.
    pub(super) const ACCESS_DENIED: Self = Self(49);

    pub(super) fn new(code: u8) -> Self {
        Self(code)
    }

    /// Returns the number on the wire.
    #[must_use]
    pub fn code(self) -> u8 {
        self.0
    }

    /// Returns the name in the IANA registry "TLS Alerts", if it is one of TLS 1.3.
    fn name(self) -> Option<&'static str> {
        Some(match self.0 {
            0 => "close_notify",
            10 => "unexpected_message",
            20 => "bad_record_mac",
            22 => "record_overflow",
            40 => "handshake_failure",
            42 => "bad_certificate",
            43 => "unsupported_certificate",
            44 => "certificate_revoked",
            45 => "certificate_expired",
            46 => "certificate_unknown",
            47 => "illegal_parameter",
            48 => "unknown_ca",
            49 => "access_denied",
            50 => "decode_error",
            51 => "decrypt_error",
            70 => "protocol_version",
            71 => "insufficient_security",
            80 => "internal_error",
            86 => "inappropriate_fallback",
            90 => "user_canceled",
            109 => "missing_extension",
            110 => "unsupported_extension",
            112 => "unrecognized_name",
            113 => "bad_certificate_status_response",
            115 => "unknown_psk_identity",
            116 => "certificate_required",
            120 => "no_application_protocol",
            _ => return None,
        })
    }
}

impl fmt::Display for Alert {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "alert {}", self.0),
        }
    }
}

impl fmt::Debug for Alert {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

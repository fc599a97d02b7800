//! The ways in which the demo lets carriers die.

use std::fmt;

/// How a carrier dies.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Death {
    /// Both ends get a TCP reset, as from a firewall that forgot the flow.
    Reset,
    /// Both ends get an orderly end of stream, as from a proxy that restarts.
    Close,
    /// A TLS record arrives in part, and then a reset.
    Cut,
    /// Nothing arrives any more in either direction, and nobody says so: the
    /// client went out of reach.
    Silence,
    /// Nothing arrives at sproxy any more; what it sends still does.
    OneWay,
}

impl Death {
    /// Every kind, in the order of the table.
    pub(super) const ALL: [Self; 5] =
        [Self::Reset, Self::Close, Self::Cut, Self::Silence, Self::OneWay];
}

impl fmt::Display for Death {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Reset => "reset",
            Self::Close => "orderly close",
            Self::Cut => "cut inside a TLS record",
            Self::Silence => "silence both ways",
            Self::OneWay => "silence one way",
        })
    }
}

/// The deaths of one show. The silent ones cost `--dead-after` each.
pub(super) const PLAN: [Death; 14] = [
    Death::Reset,
    Death::Silence,
    Death::Close,
    Death::Cut,
    Death::OneWay,
    Death::Cut,
    Death::Close,
    Death::Reset,
    Death::Silence,
    Death::Cut,
    Death::OneWay,
    Death::Reset,
    Death::Close,
    Death::Silence,
];

//! The ways in which the demo kills carriers.

use std::fmt;

/// The way in which a carrier dies.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum DemoDeath {
    /// Both ends get a TCP reset, as from a firewall that forgot the connection.
    Reset,
    /// Both ends get an end of stream, as from a proxy that restarts.
    Close,
    /// A TLS record arrives in part, followed by a reset.
    Cut,
    /// Nothing arrives in either direction, and neither end is told: the client is out of reach.
    Silence,
    /// Nothing arrives at sproxy, but its own data still arrives.
    OneWay,
}

impl DemoDeath {
    /// Every kind, in the order of the table.
    pub(super) const ALL: [Self; 5] =
        [Self::Reset, Self::Close, Self::Cut, Self::Silence, Self::OneWay];
}

impl fmt::Display for DemoDeath {
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

/// The sequence of deaths in one demo. Each silent one costs `--dead-after`.
pub(super) const PLAN: [DemoDeath; 14] = [
    DemoDeath::Reset,
    DemoDeath::Silence,
    DemoDeath::Close,
    DemoDeath::Cut,
    DemoDeath::OneWay,
    DemoDeath::Cut,
    DemoDeath::Close,
    DemoDeath::Reset,
    DemoDeath::Silence,
    DemoDeath::Cut,
    DemoDeath::OneWay,
    DemoDeath::Reset,
    DemoDeath::Close,
    DemoDeath::Silence,
];

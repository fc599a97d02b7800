//! The control socket: how a running proxy is looked at and told what to do.
//!
//! It is a Unix socket of mode 0600. One JSON object a line goes each way; the
//! words are in `docs/control.md`. [`ControlSocket`] serves it in a proxy, and
//! [`ask`] speaks to one.

mod ask;
mod message;
mod place;
mod serve;
mod subject;

pub use ask::{AskError, ask};
pub use message::{
    Answer, Fault, FaultCode, MAX_REQUEST, ProcessStatus, Reply, Request, Role, VERSION,
};
pub use place::{Claim, Found, default_folders, find};
pub use serve::{ControlSocket, MAX_CONNECTIONS};
pub use subject::Subject;

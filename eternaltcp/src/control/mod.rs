//! The control socket, which inspects and controls a running proxy.
//!
//! It is a Unix socket of mode 0600. Each line in either direction is one JSON object;
//! `docs/control.md` describes them. [`ControlSocket`] serves it in a proxy, and [`ask`] is its
//! client.

mod ask;
mod clients;
mod connections;
mod find;
mod hold;
mod kind;
mod message;
mod path;
mod place;
mod process_status;
mod reload;
mod serve;
mod subject;

pub use ask::{AskError, ask};
pub use clients::Clients;
pub use find::{FoundSocket, find, find_of_others, sweep};
pub use kind::ProxyKind;
pub(crate) use message::Reply;
pub use message::{
    Fault, FaultCode, ReloadAnswer, ReloadOutcome, ReloadedKey, Request, Response, UpgradeAnswer,
    UpgradeState, VERSION,
};
pub use path::ControlPath;
pub use place::{Claim, default_folders, known_folders};
pub use process_status::{EndedServer, ForwardStatus, ProcessStatus, RestartStatus};
pub use reload::{ReloadRequest, take_reloads};
pub use serve::ControlSocket;
pub use subject::Subject;

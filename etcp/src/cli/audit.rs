//! The flag for the records of a server.

#![allow(rustdoc::broken_intra_doc_links, reason = "these texts are the help that users read")]

use std::convert::Infallible;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use clap::Args;
use eternaltcp::paths::logs;

use super::common::at_home;

/// The places to which a server writes its records.
#[derive(Debug, Default, Args)]
pub(crate) struct AuditArgs {
    /// Record who was admitted and refused, and every session, as JSON lines at the end of this
    /// file; or journal for systemd's journal; may be repeated
    #[arg(long, value_name = "FILE", help_heading = "Control")]
    pub(crate) audit_log: Vec<AuditPlace>,
}

/// A place of records.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum AuditPlace {
    /// The journal of systemd.
    Journal,
    /// A file at this path.
    File(PathBuf),
}

impl fmt::Display for AuditPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Journal => f.write_str("the journal"),
            Self::File(path) => path.display().fmt(f),
        }
    }
}

impl FromStr for AuditPlace {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        if text == "journal" {
            return Ok(Self::Journal);
        }
        let path = at_home(text.into());
        // An absolute path replaces the folder.
        Ok(Self::File(logs().map_or_else(|| path.clone(), |folder| folder.join(&path))))
    }
}

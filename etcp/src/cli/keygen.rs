//! The command line of `etcp keygen`.

#![allow(rustdoc::broken_intra_doc_links, reason = "these texts are the help that users read")]

use std::path::PathBuf;

use clap::Args;

use super::common::parse_path;

#[derive(Debug, Args)]
pub(crate) struct KeygenArgs {
    /// The private key [default: ~/.ssh/id_ed25519]
    #[arg(short = 'f', long, value_parser = parse_path(), value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,
    /// The comment in the public key [default: user@host]
    #[arg(short = 'C', long, value_name = "TEXT")]
    pub(crate) comment: Option<String>,
    /// The passphrase; '' for none [default: it is asked for]
    #[arg(short = 'N', long, value_name = "PASSPHRASE")]
    pub(crate) new_passphrase: Option<String>,
    /// Print the fingerprint of a key instead of creating one
    #[arg(short = 'l', long, conflicts_with = "public")]
    pub(crate) list: bool,
    /// Print the public half of a private key instead of creating one
    #[arg(short = 'y', long)]
    pub(crate) public: bool,
    /// Print nothing
    #[arg(short = 'q', long)]
    pub(crate) quiet: bool,
    /// The same as --file
    #[arg(value_parser = parse_path(), value_name = "FILE", conflicts_with = "file")]
    pub(crate) path: Option<PathBuf>,
}

//! The command lines of `etcp completions` and `etcp man`.

use std::path::PathBuf;

use clap::Args;
use clap_complete::Shell;

#[derive(Debug, Args)]
pub(crate) struct CompletionsArgs {
    /// The shell
    #[arg(value_enum)]
    pub(crate) shell: Shell,
}

#[derive(Debug, Args)]
pub(crate) struct ManArgs {
    /// The folder for the pages; created if it is missing
    #[arg(value_name = "FOLDER")]
    pub(crate) folder: PathBuf,
}

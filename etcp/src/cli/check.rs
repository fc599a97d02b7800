//! The command line of `etcp check`.

use std::path::PathBuf;

use clap::Args;

use super::common::parse_path;

#[derive(Debug, Args)]
pub(crate) struct CheckArgs {
    /// The file, or the folder with files, as for --config of sproxy and cproxy
    #[arg(value_parser = parse_path(), value_name = "FILE")]
    pub(crate) file: PathBuf,
}

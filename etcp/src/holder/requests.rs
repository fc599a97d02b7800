//! Requests for upgrades by a worker.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use eternaltcp::process::{UpgradeStatus, Upgrades};

use super::contact::{Contact, MAX_PATH};

/// Passes upgrades on to the holder of this process.
#[derive(Debug)]
pub(super) struct Requests(pub(super) Contact);

impl Upgrades for Requests {
    fn begin(&self, program: Option<&Path>, is_check: bool) -> Result<UpgradeStatus, String> {
        let path = program.map(|it| it.as_os_str().as_bytes()).unwrap_or_default();
        if path.len() > MAX_PATH {
            return Err(format!("the path is longer than {MAX_PATH} bytes"));
        }
        if program.is_some_and(|it| !it.is_absolute()) {
            return Err("the path has to be absolute".to_owned());
        }
        if !self.0.request_upgrade(path, is_check) {
            return Err("an upgrade is under way".to_owned());
        }
        Ok(self.status())
    }

    fn status(&self) -> UpgradeStatus {
        self.0.upgrade()
    }
}

//! Work inside a network namespace.

use std::fs::File;
use std::io::{Error, ErrorKind};
use std::os::fd::AsFd;
use std::path::Path;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// A namespace that can be entered.
#[derive(Debug)]
pub(crate) struct Netns {
    /// `None` for the current one.
    file: Option<File>,
}

impl Netns {
    pub(crate) fn open(path: Option<&Path>) -> Result<Self, String> {
        let open = |path: &Path| {
            File::open(path).map_err(|error| {
                let name = path.display();
                match error.kind() {
                    ErrorKind::NotFound => format!(
                        "there is no network namespace {name}: make it with 'ip netns add NAME'"
                    ),
                    _ => format!("cannot open the network namespace {name}: {error}"),
                }
            })
        };
        Ok(Self { file: path.map(open).transpose()? })
    }

    /// Runs `work` on a thread inside. Its devices, sockets and programs stay there.
    pub(crate) fn run<T: Send>(
        &self,
        work: impl FnOnce() -> Result<T, String> + Send,
    ) -> Result<T, String> {
        let inside = || {
            if let Some(file) = &self.file {
                let kind = Some(LinkNameSpaceType::Network);
                move_into_link_name_space(file.as_fd(), kind)
                    .map_err(|error| explain("enter a network namespace", error.into()))?;
            }
            work()
        };
        std::thread::scope(|scope| match scope.spawn(inside).join() {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        })
    }
}

/// Describes the failure, and a remedy.
pub(crate) fn explain(what: &str, error: Error) -> String {
    match error.kind() {
        ErrorKind::PermissionDenied => format!("cannot {what}: {error}; run linkem as root"),
        _ => format!("cannot {what}: {error}"),
    }
}

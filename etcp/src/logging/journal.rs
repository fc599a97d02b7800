//! systemd's journal as the reader of stderr. It takes the level of each line from a prefix
//! (sd-daemon(3)), and has the time of each line itself.

use std::os::fd::AsFd;

use rustix::fs::fstat;
use tracing::Level;

/// Returns whether stderr leads to the journal (systemd.exec(5), `JOURNAL_STREAM`). It may have been
/// redirected since the variable was set.
pub(super) fn is_stderr() -> bool {
    let named = std::env::var("JOURNAL_STREAM").unwrap_or_default();
    is_stream(std::io::stderr(), &named)
}

fn is_stream(output: impl AsFd, named: &str) -> bool {
    fstat(output).is_ok_and(|it| named == format!("{}:{}", it.st_dev, it.st_ino))
}

/// Returns the prefix of a line of this level.
pub(super) fn prefix(level: Level) -> &'static str {
    match level {
        Level::ERROR => "<3>",
        Level::WARN => "<4>",
        Level::INFO => "<6>",
        Level::DEBUG | Level::TRACE => "<7>",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_journal_is_known_by_the_device_and_the_inode_of_its_stream() {
        use std::os::unix::fs::MetadataExt;
        let (stream, other) = (tempfile::tempfile().unwrap(), tempfile::tempfile().unwrap());
        let metadata = stream.metadata().unwrap();
        let named = format!("{}:{}", metadata.dev(), metadata.ino());
        assert!(is_stream(&stream, &named));
        assert!(!is_stream(&other, &named), "it was redirected");
        assert!(!is_stream(&stream, ""));
    }
}

//! The command that the user's shell at the server runs: a line that finds etcp, and stores a copy
//! of it if there is none.
//!
//! Every shell passes text in single quotes to sh unchanged. Therefore the script contains no
//! quotes, backslashes and exclamation marks.

use super::copy::Copy;

/// The etcp to use at the server.
#[derive(Clone, Debug)]
pub(crate) enum EtcpChoice {
    /// The first one that is found at the usual places.
    Found,
    /// The program at this path.
    Path(String),
    /// A copy of this program.
    Copied(Copy),
}

impl EtcpChoice {
    /// Returns the first line of the script's input: a path, or nothing.
    pub(crate) fn path(&self) -> String {
        match self {
            // ssh runs commands in the home folder.
            Self::Path(path) => match path.strip_prefix("~/") {
                Some(inside) => format!("./{inside}"),
                None => path.clone(),
            },
            Self::Found | Self::Copied(_) => String::new(),
        }
    }
}

/// Returns the command that starts etcp at the server and passes its stdin on to it. It first reads
/// two lines: a path or nothing, and another that it ignores if there is no etcp.
pub(crate) fn serve(wanted: &EtcpChoice) -> String {
    let cache = r#"c="${XDG_CACHE_HOME:-$HOME/.cache}/eternaltcp"; "#;
    let candidates = match wanted {
        EtcpChoice::Found | EtcpChoice::Path(_) => {
            let version = env!("CARGO_PKG_VERSION");
            format!(
                "etcp \"$HOME/.local/bin/etcp\" \"$HOME/.cargo/bin/etcp\" /usr/local/bin/etcp \
                 \"$c\"/etcp-{version}-*"
            )
        }
        EtcpChoice::Copied(copy) => format!(r#""$c/{}""#, copy.name()),
    };
    let find = format!(
        "read -r p; {cache}\
         if [ -n \"$p\" ]; then set -- \"$p\"; else set -- {candidates}; fi; \
         for e do if command -v \"$e\" >/dev/null 2>&1; then exec \"$e\" one-user; fi; done; \
         read -r w; echo; echo \"ETERNALTCP 1 missing\tsystem=$(uname -sm)\"; "
    );
    let take = match wanted {
        EtcpChoice::Found | EtcpChoice::Path(_) => String::new(),
        EtcpChoice::Copied(copy) => {
            let name = copy.name();
            format!(
                "read -r n && [ \"$n\" -gt 0 ] && mkdir -p \"$c\" && \
                 head -c \"$n\" >\"$c/.$$\" && [ \"$(wc -c <\"$c/.$$\")\" -eq \"$n\" ] && \
                 chmod 755 \"$c/.$$\" && mv \"$c/.$$\" \"$c/{name}\" && \
                 echo \"ETERNALTCP 1 copied\" && exec \"$c/{name}\" one-user; rm -f \"$c/.$$\""
            )
        }
    };
    in_sh(&format!("{find}{take}"))
}

/// Returns the command that connects a carrier. It first reads the path of etcp.
pub(crate) fn carry() -> String {
    in_sh("read -r p; exec \"$p\" one-user")
}

fn in_sh(script: &str) -> String {
    format!("exec sh -c '{script}'")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shell_passes_the_scripts_on_as_they_are() {
        let copy = Copy::of("0.1.0", &[0xab; 32], 5);
        let wanted =
            [EtcpChoice::Found, EtcpChoice::Path("x".to_owned()), EtcpChoice::Copied(copy)];
        for script in wanted.iter().map(serve).chain([carry()]) {
            let inner = script.strip_prefix("exec sh -c '").unwrap().strip_suffix('\'').unwrap();
            assert!(!inner.contains(['\'', '\\', '!', '\n']), "{script}");
        }
    }

    #[test]
    fn a_path_in_the_home_folder_there_may_be_written_with_a_tilde() {
        let path = |text: &str| EtcpChoice::Path(text.to_owned()).path();
        assert_eq!(path("~/etcp"), "./etcp");
        assert_eq!(path("/opt/etcp"), "/opt/etcp");
        assert_eq!(EtcpChoice::Found.path(), "");
    }
}

//! One run of a command, with limits of its time and its output.

use std::process::Stdio;
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::process::{Child, Command};
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use super::KeyCommand;
use crate::process::{ProcessGroup, as_started};
use eternaltcp_tls::PublicKey;

/// Time allowed for a run; then the command is killed with everything that it started.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

/// The maximum output of a run in bytes.
const MAX_OUTPUT: u64 = 1 << 20;

impl KeyCommand {
    /// Runs the command for a key, and returns the lines that it prints.
    ///
    /// # Errors
    /// The program must not be trusted or cannot be started, fails, or exceeds a limit.
    pub(super) async fn run(&self, key: &PublicKey) -> Result<String, String> {
        let (this, key) = (self.clone(), key.clone());
        // Checking files and starting a program may take longer than a tunnel can wait.
        let started = spawn_blocking(move || this.start(&key)).await;
        let mut child = started.map_err(|error| error.to_string())??;
        let _group = ProcessGroup::of(child.id());
        match timeout(PATIENCE, read(&mut child)).await {
            Ok(read) => read,
            Err(_) => Err(format!("it took longer than {PATIENCE:?} and was killed")),
        }
    }

    fn start(&self, key: &PublicKey) -> Result<Child, String> {
        self.check().map_err(|error| error.to_string())?;
        let mut command = Command::new(&self.program);
        command.args(self.arguments(key)).env_clear().current_dir("/").process_group(0);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        command.kill_on_drop(true);
        as_started(command.as_std_mut());
        let user = &self.user;
        command.env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
        command.env("USER", &user.name).env("LOGNAME", &user.name).env("HOME", &user.home);
        if let Some((user, group)) = user.ids {
            // This also drops all further groups, which would be those of root.
            command.uid(user).gid(group);
        }
        command.spawn().map_err(|error| format!("it cannot be started: {error}"))
    }
}

/// Reads the output of a command to its end.
async fn read(child: &mut Child) -> Result<String, String> {
    let Some(output) = child.stdout.take() else { return Err("it has no output".to_owned()) };
    let mut bytes = Vec::new();
    let read = output.take(MAX_OUTPUT + 1).read_to_end(&mut bytes).await;
    read.map_err(|error| format!("its output cannot be read: {error}"))?;
    if bytes.len() as u64 > MAX_OUTPUT {
        return Err(format!("it prints more than {} KiB", MAX_OUTPUT >> 10));
    }
    let status = child.wait().await.map_err(|error| error.to_string())?;
    if !status.success() {
        return Err(format!("it failed ({status})"));
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::AuthorizedKeys;
    use eternaltcp_tls::Identity;

    /// Runs a command as the user of the tests.
    async fn run(line: &str) -> Result<AuthorizedKeys, String> {
        let own = super::super::own_name().unwrap();
        let key = Identity::generate().unwrap().public_key();
        KeyCommand::new(line, &own)?.run(&key).await.map(|text| AuthorizedKeys::parse(&text))
    }

    #[tokio::test]
    async fn a_command_prints_the_lines_of_the_key() {
        assert_eq!(run("/bin/echo %t %k").await.unwrap().len(), 1);
        assert_eq!(run("/bin/echo").await.unwrap().len(), 0);
        assert!(run("/bin/false").await.unwrap_err().starts_with("it failed"));
    }

    #[tokio::test]
    async fn a_command_that_never_stops_printing_is_killed() {
        assert!(run("/usr/bin/yes").await.unwrap_err().contains("more than 1024 KiB"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_command_that_hangs_is_killed() {
        assert!(run("/bin/sleep 1000").await.unwrap_err().contains("longer than 10s"));
    }
}

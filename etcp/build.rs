//! Provides the commit from which the program is built.
//!
//! In this order: `ETERNALTCP_COMMIT` in the environment, the contents of the file `commit` that
//! `git archive` wrote, and git itself if this folder is its repository. None of them is required.
//! Debug builds do not run git: their tests would be linked again after each commit.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

/// The number of digits that git itself shows of a commit in the largest repositories.
const DIGITS: usize = 12;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=commit");
    println!("cargo::rerun-if-env-changed=ETERNALTCP_COMMIT");
    let folder = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").unwrap_or_default());
    let commit = env::var("ETERNALTCP_COMMIT").ok();
    let commit = commit.or_else(|| fs::read_to_string(folder.join("commit")).ok());
    let commit = commit.filter(|commit| is_commit(commit.trim())).or_else(|| of_git(&folder));
    let commit = commit.as_deref().map(str::trim).unwrap_or_default();
    println!("cargo::rustc-env=ETERNALTCP_COMMIT={}", commit.get(..DIGITS).unwrap_or(commit));
}

fn is_commit(text: &str) -> bool {
    text.len() >= 7 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// Returns the checked-out commit, if the workspace is the top of a repository: sources that were
/// unpacked inside another repository do not belong to its commits.
fn of_git(folder: &Path) -> Option<String> {
    if env::var("PROFILE").is_ok_and(|profile| profile == "debug") {
        return None;
    }
    let top = git(folder, &["rev-parse", "--show-toplevel"])?;
    if Path::new(&top).canonicalize().ok()? != folder.parent()?.canonicalize().ok()? {
        return None;
    }
    let branch = git(folder, &["rev-parse", "--symbolic-full-name", "HEAD"])?;
    for name in ["HEAD", "logs/HEAD", "packed-refs", &branch] {
        let path = folder.join(git(folder, &["rev-parse", "--git-path", name])?);
        if path.exists() {
            println!("cargo::rerun-if-changed={}", path.display());
        }
    }
    git(folder, &["rev-parse", "HEAD"]).filter(|commit| is_commit(commit))
}

fn git(folder: &Path, args: &[&str]) -> Option<String> {
    let output = Command::new("git").arg("-C").arg(folder).args(args).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.trim().to_owned())
}

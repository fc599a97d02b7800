//! sftp, rsync and git by `etcp ssh`, to a stock sshd, each while the client moves.

use std::path::Path;

use etcp_testkit::folder::{length, sha256};
use etcp_testkit::ssh_site::{PROGRAMS, SshSite};
use etcp_testkit::transfer::strike_on_the_way_of;
use etcp_testkit::wait::PATIENCE;
use etcp_testkit::{Launch, NetworkFault, RunAs, skip};

const FAULTS: [NetworkFault; 4] = [
    NetworkFault::ResetAndMove,
    NetworkFault::BlackholeThenMove,
    NetworkFault::Forget,
    NetworkFault::SoftMove,
];

/// The size of the copied data.
const LENGTH: u64 = 64 << 20;

/// Limits a command's output to about 10 MB/s, so that the faults fall inside.
const SLOWLY: &str = "perl -e 'while (sysread STDIN, $b, 40960) { syswrite STDOUT, $b; select undef, undef, undef, .004 }'";

/// Creates a site with files to copy and the command `./as-ssh`.
fn site() -> SshSite {
    let site = SshSite::new(2222);
    site.folder.random_file("original", LENGTH, RunAs::Nobody);
    let command = "./etcp ssh --remote-port 6200 -F ssh_config";
    site.folder.script("as-ssh", &format!("#!/bin/sh\nexec {command} \"$@\"\n"));
    let slowly = format!("#!/bin/sh\n./as-ssh \"$@\" | {SLOWLY}\n");
    site.folder.script("as-slow-ssh", &slowly);
    site
}

/// Runs a script that copies `original`, and causes the faults while its output grows.
fn copy(site: &SshSite, name: &str, script: &str, mut arrived: impl FnMut() -> u64) {
    let script = site.folder.readable_file(name, &format!("set -e\n{script}\n"));
    let launch = site.client(Launch::new(name, "sh").arg(script));
    let mut process = launch.start(&site.world.client, &site.folder);
    strike_on_the_way_of(LENGTH, &site.world, &FAULTS, || (process.is_running(), arrived()));
    assert!(process.wait(2 * PATIENCE).success(), "{}", process.log());
}

fn assert_same(site: &SshSite, copy: &Path) {
    assert_eq!(sha256(copy), sha256(&site.folder.join("original")), "every byte is right");
}

fn can_run(program: &str) -> bool {
    skip::can_run("netns::ssh_copies", &[PROGRAMS[0], PROGRAMS[1], program, "sha256sum"])
}

/// Runs a command that copies `original` to `copy` at the server.
fn arrives_whole(program: &str, command: impl Fn(&SshSite, &Path) -> String) {
    if !can_run(program) {
        return;
    }
    let site = site();
    let there = site.folder.join("copy");
    let command = command(&site, &there);
    copy(&site, program, &command, || length(&there));
    assert_same(&site, &there);
}

#[test]
fn sftp_arrives_whole_while_the_client_moves() {
    arrives_whole("sftp", |site, there| {
        let put = format!("put original {}", there.display());
        let batch = site.folder.readable_file("batch", &put);
        format!("sftp -q -S ./as-ssh -l 80000 -b {} server", batch.display())
    });
}

#[test]
fn rsync_arrives_whole_while_the_client_moves() {
    arrives_whole("rsync", |_, there| {
        format!("rsync --inplace --bwlimit=10m -e ./as-ssh original server:{}", there.display())
    });
}

#[test]
fn git_clones_whole_while_the_client_moves() {
    if !can_run("git") {
        return;
    }
    let site = site();
    let clone = format!(
        "export GIT_CONFIG_GLOBAL=/dev/null GIT_SSH=./as-slow-ssh
git init -q repo
cp original repo/
git -C repo -c core.compression=0 add original
git -C repo -c user.name=me -c user.email=me@test commit -q -m first
git clone -q server:{} clone",
        site.folder.join("repo").display()
    );
    let packs = site.folder.join("clone/.git/objects/pack");
    copy(&site, "git", &clone, || {
        let files = std::fs::read_dir(&packs).into_iter().flatten().flatten();
        files.map(|file| length(&file.path())).sum()
    });
    assert_same(&site, &site.folder.join("clone/original"));
}

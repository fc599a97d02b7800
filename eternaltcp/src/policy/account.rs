//! Lines of `/etc/passwd`.

use std::fs;

/// Returns the name of the user of this number, if `/etc/passwd` has one.
#[must_use]
pub fn user_name(user: u32) -> Option<String> {
    let accounts = fs::read("/etc/passwd").ok()?;
    let accounts = String::from_utf8_lossy(&accounts);
    let account = accounts.lines().filter_map(Account::parse).find(|it| it.user == user);
    account.map(|account| account.name.to_owned())
}

/// A line of `/etc/passwd`.
pub(crate) struct Account<'a> {
    pub(crate) name: &'a str,
    pub(crate) user: u32,
    pub(crate) group: u32,
    pub(crate) home: Option<&'a str>,
}

impl<'a> Account<'a> {
    /// Parses a line; `None` if it does not describe an account.
    pub(crate) fn parse(line: &'a str) -> Option<Self> {
        let mut fields = line.split(':');
        let name = fields.next()?;
        let mut number = || fields.nth(1)?.parse().ok();
        let user = number()?;
        let group = fields.next()?.parse().ok()?;
        Some(Self { name, user, group, home: fields.nth(1) })
    }
}

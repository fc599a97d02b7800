//! The title that `ps` shows for this process.

use std::io;

/// The positions of `arg_start` and `arg_end` in /proc/PID/stat, counted after the name
/// (proc_pid_stat(5)).
const ARGUMENTS: usize = 45;

/// Replaces the arguments of this process, as other processes see them, by one text. The text is
/// cut to the length of the arguments, because there is no more room. Afterwards [`std::env::args`]
/// returns the text, too.
///
/// Only a process with one thread may call this, because another thread could read its arguments
/// meanwhile.
///
/// # Errors
/// There is no `/proc`, or the process has several threads.
pub fn set_title(text: &str) -> io::Result<()> {
    if !super::clone::has_one_thread()? {
        return Err(io::ErrorKind::ResourceBusy.into());
    }
    let (start, end) = arguments()?;
    let length = end.checked_sub(start).ok_or(io::ErrorKind::InvalidData)?;
    let text = text.as_bytes().get(..length.saturating_sub(1)).unwrap_or(text.as_bytes());
    // SAFETY: the kernel has put the arguments there, in memory of this process that is writable and
    // never unmapped. No reference to it exists outside of a call that reads arguments, and this is
    // the only thread. Each argument still ends within the range, at a zero.
    unsafe {
        let to = std::ptr::with_exposed_provenance_mut::<u8>(start);
        to.write_bytes(0, length);
        to.copy_from_nonoverlapping(text.as_ptr(), text.len());
    }
    Ok(())
}

/// Returns the addresses where the arguments begin and end.
fn arguments() -> io::Result<(usize, usize)> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let fields = stat.rsplit_once(')').map(|(_, rest)| rest.split_ascii_whitespace());
    let mut fields = fields.ok_or(io::ErrorKind::InvalidData)?.skip(ARGUMENTS);
    let mut next = || fields.next().and_then(|it| it.parse().ok()).filter(|it| *it != 0_usize);
    next().zip(next()).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

//! Terminal settings of a background program.

/// Lets the calling thread write to the terminal from the background.
///
/// After `stty tostop`, a terminal stops every background process that writes to it. For a proxy, a
/// log line would then stop all sessions.
pub fn write_from_background() {
    eternaltcp_sys::write_from_background();
}

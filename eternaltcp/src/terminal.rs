//! What a program that runs on owes the terminal that it was started from.

/// Lets the calling thread write to the terminal from the background.
///
/// After `stty tostop` a terminal stops every process of a job that writes to it from the
/// background. For a proxy that would end sessions because of a line of its log.
pub fn write_from_background() {
    eternaltcp_sys::write_from_background();
}

//! The runtime of a client, and of whatever else serves one tunnel.

use crate::exit::Failure;

/// Runs `future` to its end on this thread. What is left then is given up:
/// neither a name that is still looked up is waited for, nor input.
///
/// # Errors
/// When the system refuses what a runtime needs.
pub(crate) fn block_on<F: Future>(future: F) -> Result<F::Output, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(Failure::failed)?;
    let output = runtime.block_on(future);
    runtime.shutdown_background();
    Ok(output)
}

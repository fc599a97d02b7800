//! The server's answer to a session that its client opened.

use std::sync::Arc;

use eternaltcp_proto::{Cause, Reset};

use super::super::Context;
use super::super::connect::{connect, dial_resolver};
use super::super::incoming::{SessionRequest, hand_out};
use super::super::listen::{ListenRequester, listen};
use crate::net::stream::Stream;
use crate::target::{OpenRequest, Requested, decode_open};

/// Carries out the request of a session.
pub(super) async fn answer(
    context: &Arc<Context>,
    asker: ListenRequester,
    payload: &[u8],
) -> Result<Stream, Reset> {
    let Some(OpenRequest { wanted, origin }) = decode_open(payload) else {
        return Err(Reset::new(Cause::Unsupported));
    };
    let (target, is_named) = match wanted {
        Requested::Default => (context.rules().target.clone(), false),
        Requested::Named(target) => (target, true),
        // A program that accepts sessions itself has none.
        Requested::Resolver if context.program.get().is_none() => {
            return dial_resolver(context, &asker.entry).await;
        }
        Requested::Listen(at) => return listen(context, asker, &at).await,
        Requested::Resolver | Requested::Accepted(_) => return Err(Reset::new(Cause::Unsupported)),
    };
    match context.program.get() {
        Some(program) => {
            hand_out(context, &asker.entry, SessionRequest { target, is_named, origin }, program)
                .await
        }
        None => {
            let connected = connect(context, &asker.entry, &target, origin.as_ref()).await;
            connected.map_err(|reset| if is_named { reset } else { of_default_target(reset) })
        }
    }
}

/// Adds that the client has not named the unreachable target.
fn of_default_target(reset: Reset) -> Reset {
    let detail = format!("{} (the default target of sproxy, --target)", reset.detail);
    Reset::with_detail(reset.cause, detail)
}

//! The decisions of a client's role.

use std::collections::VecDeque;

use eternaltcp_proto::Closing;

use crate::client::{ClientEnd, Rejection};
use crate::driver::Action;

/// The next actions for the driver, and how the client ends.
#[derive(Default)]
pub(super) struct Actions {
    next: VecDeque<Action>,
    end: Option<ClientEnd>,
}

impl Actions {
    pub(super) fn push(&mut self, action: Action) {
        self.next.push_back(action);
    }

    pub(super) fn extend(&mut self, actions: impl IntoIterator<Item = Action>) {
        self.next.extend(actions);
    }

    /// Ends the client at once. The first reason counts.
    pub(super) fn fail(&mut self, end: ClientEnd) {
        self.end.get_or_insert(end);
        self.push(Action::End);
    }

    /// Closes the tunnel in order, because the server does not permit what the client was made for.
    pub(super) fn reject(&mut self, why: Rejection) {
        self.end.get_or_insert(ClientEnd::Refused(why));
        self.push(Action::Close(Closing::Done));
    }

    /// Closes the tunnel in order after its last session. `end` says what went wrong with that one,
    /// if anything did.
    pub(super) fn close(&mut self, end: Option<ClientEnd>) {
        self.end = end.or(self.end.take());
        self.push(Action::Close(Closing::Done));
    }

    /// Returns the next action.
    pub(super) fn poll(&mut self) -> Option<Action> {
        self.next.pop_front()
    }

    /// Returns how the client ended.
    pub(super) fn into_end(self) -> ClientEnd {
        self.end.unwrap_or(ClientEnd::Done)
    }
}

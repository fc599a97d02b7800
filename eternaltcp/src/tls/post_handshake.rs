//! Handshake messages that come after the handshake (RFC 8446, section 4.6):
//! put together from their records, and parsed. Acts on nothing.

use super::Alert;
use super::error::Fault;

/// Type and length.
const HEADER: usize = 4;
/// The longest message that is taken; a key update has five bytes and a ticket
/// a few hundred.
const MESSAGE_LIMIT: usize = 16 * 1024;

const NEW_SESSION_TICKET: u8 = 4;
const KEY_UPDATE: u8 = 24;

/// A message that may come at any time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Message {
    /// A resumption ticket. This side never uses one.
    NewSessionTicket,
    /// The sender's next record has new keys.
    KeyUpdate {
        /// It wants the other direction's keys changed too.
        answer: bool,
    },
}

impl Message {
    fn parse(kind: u8, body: &[u8]) -> Result<Self, Fault> {
        match (kind, body) {
            (NEW_SESSION_TICKET, _) => Ok(Self::NewSessionTicket),
            (KEY_UPDATE, [0]) => Ok(Self::KeyUpdate { answer: false }),
            (KEY_UPDATE, [1]) => Ok(Self::KeyUpdate { answer: true }),
            (KEY_UPDATE, [_]) => {
                Err(Fault::misbehaved(Alert::ILLEGAL_PARAMETER, "an unknown kind of key update"))
            }
            (KEY_UPDATE, _) => Err(Fault::misbehaved(Alert::DECODE_ERROR, "a bad key update")),
            _ => Err(Fault::misbehaved(
                Alert::UNEXPECTED_MESSAGE,
                format!("handshake message {kind} after the handshake"),
            )),
        }
    }
}

/// A key update in bytes; it asks for none in return.
pub(super) const KEY_UPDATE_MESSAGE: [u8; 5] = [KEY_UPDATE, 0, 0, 1, 0];

/// Puts messages together from the records that carry them.
#[derive(Debug, Default)]
pub(super) struct MessageReader {
    /// The front of a message whose rest is still to come.
    partial: Vec<u8>,
}

impl MessageReader {
    /// Whether a message is incomplete: no other record may come before its rest
    /// (RFC 8446, section 5.1).
    pub(super) fn is_midway(&self) -> bool {
        !self.partial.is_empty()
    }

    /// Takes one record's content; returns the messages that it completes.
    pub(super) fn push(&mut self, content: &[u8]) -> Result<Vec<Message>, Fault> {
        self.partial.extend_from_slice(content);
        let mut messages = Vec::new();
        let mut rest = &self.partial[..];
        while let Some((message, after)) = split_message(rest)? {
            if matches!(message, Message::KeyUpdate { .. }) && !after.is_empty() {
                let what = "a key update that is not the last in its record";
                return Err(Fault::misbehaved(Alert::UNEXPECTED_MESSAGE, what));
            }
            messages.push(message);
            rest = after;
        }
        let used = self.partial.len() - rest.len();
        self.partial.drain(..used);
        Ok(messages)
    }
}

/// The message at the front of `bytes`, if it is there whole, and what follows it.
fn split_message(bytes: &[u8]) -> Result<Option<(Message, &[u8])>, Fault> {
    let Some((&[kind, a, b, c], rest)) = bytes.split_first_chunk::<HEADER>() else {
        return Ok(None);
    };
    let length = u32::from_be_bytes([0, a, b, c]) as usize;
    if length > MESSAGE_LIMIT {
        return Err(Fault::misbehaved(Alert::DECODE_ERROR, "a handshake message over the limit"));
    }
    let Some((body, after)) = rest.split_at_checked(length) else { return Ok(None) };
    Ok(Some((Message::parse(kind, body)?, after)))
}

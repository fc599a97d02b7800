//! Announcements of a server to its client, again after each attach.

use bytes::Bytes;

use super::{Event, Tunnel};
use crate::announcement::{Announcement, MAX_CONTENT, Topic};
use crate::attach::FEATURE_ANNOUNCE;
use crate::error::Violation;
use crate::id::Side;
use crate::packet::Kind;
use crate::transmit::Transmit;

/// The maximum number of topics of which a side states something.
const MAX_TOPICS: usize = 16;

/// The statements of this side, by topic.
#[derive(Debug, Default)]
pub(super) struct Announcements(Vec<Announcement>);

impl Announcements {
    /// Replaces the statement about a topic. Returns whether it differs from the previous
    /// statement.
    fn set(&mut self, stated: Announcement) -> bool {
        match self.0.iter().position(|it| it.topic == stated.topic) {
            Some(place) if self.0[place] == stated => return false,
            Some(place) => self.0[place] = stated,
            None if self.0.len() == MAX_TOPICS => return false,
            None => self.0.push(stated),
        }
        true
    }

    fn get(&self, topic: Topic) -> Option<&Announcement> {
        self.0.iter().find(|it| it.topic == topic)
    }
}

impl Tunnel {
    /// States something to the client, now and again after each attach: the server's part. It
    /// replaces what was stated about the topic before. A client without the feature is told
    /// nothing. Content beyond [`MAX_CONTENT`] bytes is ignored, and so is a topic beyond the
    /// sixteenth.
    pub fn announce(&mut self, announcement: Announcement) {
        debug_assert!(self.identity.side == Side::Server, "only a server announces");
        let topic = announcement.topic;
        if announcement.content.len() <= MAX_CONTENT && self.announcements.set(announcement) {
            self.list_announcement(topic);
        }
    }

    fn list_announcement(&mut self, topic: Topic) {
        if self.peer.features & FEATURE_ANNOUNCE == 0 {
            return;
        }
        if let Some(outbox) = self.carriers.outbox_mut() {
            outbox.push_announcement(topic);
        }
    }

    /// Lists everything that is stated, for a carrier that was attached.
    pub(super) fn list_announcements(&mut self) {
        let topics: Vec<_> = self.announcements.0.iter().map(|it| it.topic).collect();
        topics.into_iter().for_each(|topic| self.list_announcement(topic));
    }

    pub(super) fn poll_announcement(&mut self) -> Option<Transmit> {
        let topic = self.carriers.outbox_mut()?.pop_announcement()?;
        self.announcements.get(topic).map(Announcement::encode)
    }

    /// Handles an announcement: the client's part.
    pub(super) fn handle_announcement(&mut self, payload: &Bytes) -> Result<(), Violation> {
        let is_expected =
            self.identity.side == Side::Client && self.peer.features & FEATURE_ANNOUNCE != 0;
        if !is_expected {
            return Err(Violation::OutOfPlace(Kind::Announce));
        }
        let announcement = Announcement::decode(payload)?;
        self.events.push_back(Event::Announced(announcement));
        Ok(())
    }
}

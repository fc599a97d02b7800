//! The announcements of a world's server: its last statement, and the last one that its client
//! received.

use bytes::Bytes;
use eternaltcp_proto::{Announcement, Topic};

/// A topic without a name in this version.
const TOPIC: Topic = Topic::from_code(77);

/// The statements are numbers that rise, also when the server has lost its state.
#[derive(Debug)]
pub(crate) struct Announced {
    is_used: bool,
    stated: u64,
    told: u64,
}

impl Announced {
    /// Creates the state of a world in which nothing was stated. Its server states something only
    /// if announcements are used.
    pub(crate) fn new(is_used: bool) -> Self {
        Self { is_used, stated: 0, told: 0 }
    }

    /// Returns the server's next statement.
    pub(crate) fn state(&mut self) -> Option<Announcement> {
        self.is_used.then(|| {
            self.stated += 1;
            let content = Bytes::copy_from_slice(&self.stated.to_le_bytes());
            Announcement { topic: TOPIC, content }
        })
    }

    /// Takes an announcement that the client receives. Panics if the server never stated it, or if
    /// the client has received a newer one before.
    pub(crate) fn tell(&mut self, told: &Announcement) {
        let content = told.content.as_ref().try_into().expect("a number");
        let told = (told.topic, u64::from_le_bytes(content));
        let is_right = told.0 == TOPIC && (self.told..=self.stated).contains(&told.1);
        assert!(is_right, "the client is told {told:?}: {self:?}");
        self.told = told.1;
    }
}

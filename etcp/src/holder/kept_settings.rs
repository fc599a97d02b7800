//! The settings of the last reload, and the keys of which clients were told, in memory that outlives
//! the worker that has read them.

use std::ffi::CStr;
use std::io;
use std::sync::atomic::Ordering;

use eternaltcp_sys::Words;

/// The maximum length of the settings in bytes.
pub(crate) const MAX_SETTINGS: usize = 4 << 20;

/// The offsets of the words: which of the two parts is in force (1 or 2; 0: none), and the length
/// of each.
const IN_FORCE: usize = 0;
const LENGTHS: [usize; 2] = [8, 16];

/// The offsets of the two parts. The part that is not in force is written, so that a worker that
/// dies meanwhile leaves the other one.
const PARTS: [usize; 2] = [64, 64 + MAX_SETTINGS];

/// The fingerprints of announced keys, each in a place of its own, and their number so far. The
/// oldest gives way.
const ANNOUNCED: usize = 24;
const PLACES: usize = PARTS[1] + MAX_SETTINGS;
const MAX_ANNOUNCED: usize = 16;
const FINGERPRINT: usize = 64;
const LENGTH: usize = PLACES + MAX_ANNOUNCED * FINGERPRINT;

const NAME: &CStr = c"etcp-settings";

/// The settings that the next worker continues with, if they were reloaded.
#[derive(Clone, Debug)]
pub(crate) struct KeptSettings(Words);

impl KeptSettings {
    /// Creates the memory. It takes no space before something is kept.
    pub(super) fn create() -> io::Result<Self> {
        Words::create(NAME, LENGTH, 0).map(Self)
    }

    /// Keeps these settings for the next worker. Returns false if they are too long.
    pub(crate) fn keep(&self, settings: &[u8]) -> bool {
        if settings.len() > MAX_SETTINGS {
            return false;
        }
        let next = usize::from(self.word(IN_FORCE) == 1);
        self.0.store(PARTS[next], settings);
        self.set(LENGTHS[next], settings.len() as u64);
        self.set(IN_FORCE, next as u64 + 1);
        true
    }

    /// Returns the settings that were kept last.
    pub(crate) fn get(&self) -> Option<Vec<u8>> {
        let part = usize::try_from(self.word(IN_FORCE)).ok()?.checked_sub(1)?;
        let length = usize::try_from(self.word(*LENGTHS.get(part)?))
            .unwrap_or(MAX_SETTINGS)
            .min(MAX_SETTINGS);
        let mut settings = vec![0; length];
        self.0.load(PARTS[part], &mut settings);
        Some(settings)
    }

    /// Records that clients were told of the key with this fingerprint.
    pub(crate) fn add_announced(&self, fingerprint: &str) {
        if self.announced().iter().any(|it| it == fingerprint) {
            return;
        }
        let count = self.word(ANNOUNCED);
        let place = usize::try_from(count).unwrap_or(0) % MAX_ANNOUNCED;
        let mut text = [0; FINGERPRINT];
        let length = fingerprint.len().min(FINGERPRINT);
        text[..length].copy_from_slice(&fingerprint.as_bytes()[..length]);
        self.0.store(PLACES + place * FINGERPRINT, &text);
        self.set(ANNOUNCED, count + 1);
    }

    /// Returns the fingerprints of the keys of which clients were told.
    pub(super) fn announced(&self) -> Vec<String> {
        let count = usize::try_from(self.word(ANNOUNCED)).unwrap_or(0).min(MAX_ANNOUNCED);
        let read = |place: usize| {
            let mut text = [0; FINGERPRINT];
            self.0.load(PLACES + place * FINGERPRINT, &mut text);
            String::from_utf8_lossy(&text).trim_end_matches('\0').to_owned()
        };
        (0..count).map(read).collect()
    }

    fn word(&self, at: usize) -> u64 {
        self.0.word(at).load(Ordering::SeqCst)
    }

    fn set(&self, at: usize, value: u64) {
        self.0.word(at).store(value, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_settings_that_were_kept_last_are_there() {
        let kept = KeptSettings::create().unwrap();
        assert_eq!(kept.get(), None);
        for text in ["", "one", "a second text", "3"] {
            assert!(kept.keep(text.as_bytes()));
            assert_eq!(kept.get().as_deref(), Some(text.as_bytes()));
        }
        assert!(!kept.keep(&vec![b'x'; MAX_SETTINGS + 1]));
        assert_eq!(kept.get().as_deref(), Some(&b"3"[..]), "what is too long changes nothing");
    }

    #[test]
    fn announced_keys_are_recorded_once_and_the_oldest_gives_way() {
        let kept = KeptSettings::create().unwrap();
        assert!(kept.announced().is_empty());
        for name in ["SHA256:a", "SHA256:b", "SHA256:a"] {
            kept.add_announced(name);
        }
        assert_eq!(kept.announced(), ["SHA256:a", "SHA256:b"]);
        for number in 2..=MAX_ANNOUNCED {
            kept.add_announced(&number.to_string());
        }
        let keys = kept.announced();
        assert!(keys.len() == MAX_ANNOUNCED && keys[0] == "16" && keys[1] == "SHA256:b");
    }
}

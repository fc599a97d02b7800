//! The request of one application, parsed as bytes arrive.

use bytes::BytesMut;

use super::{
    Dialect, Parsed, ProtocolRequest, RefusedRequest, TargetRequest, http, socks4, socks5,
};

/// The longest request: an HTTP head with the headers that browsers send. A SOCKS request is much
/// shorter.
pub(super) const MAX_REQUEST: usize = 8 * 1024;

/// The next step.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Step {
    /// Read more.
    Read,
    /// Send this, and ask again.
    Say(&'static [u8]),
    /// Connect the target.
    Connect(TargetRequest),
    /// Send the refusal, and close.
    Refuse(RefusedRequest),
}

/// The bytes that an application has sent so far.
#[derive(Debug, Default)]
pub(crate) struct Conversation {
    buffer: BytesMut,
    /// The application speaks SOCKS5, and was told that it needs no login.
    is_greeted: bool,
    /// An earlier process has answered the greeting.
    was_greeted: bool,
    /// The length of its greeting.
    greeting: usize,
}

impl Conversation {
    /// Returns the conversation with an application whose greeting was answered by an earlier
    /// process. All bytes that the application has sent are pushed again.
    pub(crate) fn greeted() -> Self {
        Self { was_greeted: true, ..Self::default() }
    }

    /// Adds bytes of the application, at most [`Self::room`].
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// Returns how many bytes it can take now.
    pub(crate) fn room(&self) -> usize {
        MAX_REQUEST.saturating_sub(self.buffer.len())
    }

    /// Returns whether no bytes arrived at all.
    pub(crate) fn is_empty(&self) -> bool {
        self.buffer.is_empty() && !self.is_greeted
    }

    /// Returns the next step after the bytes so far.
    pub(crate) fn step(&mut self) -> Step {
        let Some(first) = self.buffer.first() else { return Step::Read };
        let (dialect, parsed) = match first {
            _ if self.is_greeted => (Dialect::Socks5, socks5::parse_request(&self.buffer)),
            4 => (Dialect::Socks4, socks4::parse(&self.buffer)),
            5 => return self.greet(),
            b' '..=b'~' => (Dialect::Http, http::parse(&self.buffer)),
            first => (Dialect::Http, stranger(*first)),
        };
        match parsed {
            Parsed::Partial if self.room() == 0 => Step::Refuse(http::too_long()),
            Parsed::Partial => Step::Read,
            Parsed::Refused(refused) => Step::Refuse(refused),
            Parsed::Request(target, length) => {
                let length = self.greeting + length;
                Step::Connect(TargetRequest { target, asked: ProtocolRequest { dialect, length } })
            }
        }
    }

    fn greet(&mut self) -> Step {
        match socks5::parse_greeting(&self.buffer) {
            socks5::Greeting::Partial => Step::Read,
            socks5::Greeting::Refused(refused) => Step::Refuse(refused),
            socks5::Greeting::Accepted(length) => {
                let _ = self.buffer.split_to(length);
                (self.is_greeted, self.greeting) = (true, length);
                if self.was_greeted { self.step() } else { Step::Say(&socks5::NO_LOGIN) }
            }
        }
    }
}

/// Rejects bytes that are neither SOCKS nor a line of HTTP: their sender would understand no
/// answer.
fn stranger(first: u8) -> Parsed {
    let what = if first == 0x16 { "TLS".to_owned() } else { format!("a byte {first:#04x}") };
    Parsed::refused([], format!("it begins with {what}, which is neither SOCKS nor HTTP CONNECT"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Sends all of `bytes` in pieces of `size`. Returns the answers and the last step.
    fn say(bytes: &[u8], size: usize) -> (Vec<u8>, Step) {
        say_to(Conversation::default(), bytes, size)
    }

    fn say_to(mut conversation: Conversation, bytes: &[u8], size: usize) -> (Vec<u8>, Step) {
        let mut said = Vec::new();
        let mut pieces = bytes.chunks(size);
        loop {
            match conversation.step() {
                Step::Say(text) => said.extend(text),
                Step::Read => match pieces.next() {
                    Some(piece) => conversation.push(piece),
                    None => return (said, Step::Read),
                },
                refuse => return (said, refuse),
            }
        }
    }

    fn requests() -> Vec<(Dialect, &'static str, Vec<u8>)> {
        let http = b"CONNECT web.test:80 HTTP/1.1\r\nHost: web.test:80\r\n\r\n".to_vec();
        vec![
            (Dialect::Socks4, "192.0.2.7:80", b"\x04\x01\0\x50\xc0\0\x02\x07me\0".to_vec()),
            (Dialect::Socks4, "web.test:80", b"\x04\x01\0\x50\0\0\0\x01\0web.test\0".to_vec()),
            (
                Dialect::Socks5,
                "web.test:80",
                b"\x05\x02\0\x02\x05\x01\0\x03\x08web.test\0\x50".to_vec(),
            ),
            (
                Dialect::Socks5,
                "192.0.2.7:80",
                b"\x05\x01\0\x05\x01\0\x01\xc0\0\x02\x07\0\x50".to_vec(),
            ),
            (
                Dialect::Socks5,
                "[2001:db8::1]:80",
                b"\x05\x01\0\x05\x01\0\x04\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x01\0\x50"
                    .to_vec(),
            ),
            (Dialect::Http, "web.test:80", http),
        ]
    }

    #[test]
    fn a_request_is_read_in_pieces_of_every_size_and_nothing_behind_it_is_lost() {
        for (dialect, target, bytes) in requests() {
            let whole = [&bytes[..], b"\x05first data\0"].concat();
            for size in 1..=whole.len() {
                let (said, step) = say(&whole, size);
                let greeting: &[u8] = if dialect == Dialect::Socks5 { b"\x05\0" } else { b"" };
                assert_eq!(said, greeting);
                let asked = ProtocolRequest { dialect, length: bytes.len() };
                let target = target.parse().unwrap();
                let expected = Step::Connect(TargetRequest { target, asked });
                assert_eq!(step, expected);
                // The next process begins the conversation again, and does not repeat the answer.
                let again = say_to(Conversation::greeted(), &whole, size);
                assert_eq!(again, (Vec::new(), expected));
            }
        }
    }

    #[test]
    fn every_beginning_of_a_request_waits_for_the_rest() {
        for (_, _, bytes) in requests() {
            for length in 0..bytes.len() {
                assert_eq!(say(&bytes[..length], 1).1, Step::Read, "{:?}", &bytes[..length]);
            }
        }
    }

    #[test]
    fn data_of_neither_protocol_is_refused_at_its_first_byte() {
        for first in (0..=0xff).filter(|byte| !matches!(byte, 4 | 5 | b' '..=b'~')) {
            let Step::Refuse(refused) = say(&[first], 1).1 else { panic!("{first}") };
            assert!(refused.say.is_empty() && refused.why.contains("neither SOCKS nor HTTP"));
        }
    }

    #[test]
    fn a_request_that_does_not_end_is_refused_when_it_is_too_long() {
        let endless = [&b"CONNECT a:1 HTTP/1.1\r\nX: "[..], &[b'x'; 2 * MAX_REQUEST]].concat();
        let mut conversation = Conversation::default();
        let mut rest = &endless[..];
        let refused = loop {
            match conversation.step() {
                Step::Read => {
                    let (piece, after) = rest.split_at(conversation.room().min(1000));
                    conversation.push(piece);
                    rest = after;
                }
                Step::Refuse(refused) => break refused,
                step => panic!("{step:?}"),
            }
        };
        assert!(refused.say.starts_with(b"HTTP/1.1 431 "), "{refused:?}");
        assert!(conversation.room() == 0, "no more was read than allowed");
    }

    proptest! {
        #[test]
        fn no_bytes_cause_a_panic_and_their_division_does_not_matter(
            first in prop_oneof![Just(4_u8), Just(5), Just(b'C'), any::<u8>()],
            rest in proptest::collection::vec(prop_oneof![0_u8..6, any::<u8>()], 0..600),
            size in 1_usize..600,
        ) {
            let bytes = [&[first][..], &rest].concat();
            let whole = say(&bytes, bytes.len());
            prop_assert_eq!(whole, say(&bytes, size));
        }

        #[test]
        fn nor_do_lines_of_text(text in "(CONNECT|GET|[ -~]{0,9}) [ -~]{0,40}(\r\n[ -~]{0,40}){0,4}\r\n\r\n") {
            let whole = say(text.as_bytes(), text.len());
            prop_assert_eq!(whole, say(text.as_bytes(), 1));
        }
    }
}

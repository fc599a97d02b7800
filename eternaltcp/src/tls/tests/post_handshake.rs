//! Messages after the handshake, put together from records.

use crate::tls::TlsError;
use crate::tls::post_handshake::{KEY_UPDATE_MESSAGE, Message, MessageReader};

const TICKET: [u8; 6] = [4, 0, 0, 2, 9, 9];
const KEY_UPDATE: Message = Message::KeyUpdate { answer: false };

#[test]
fn messages_are_found_however_records_cut_them() {
    let stream = [&TICKET[..], &TICKET, &KEY_UPDATE_MESSAGE].concat();
    for cut in 0..stream.len() {
        let mut reader = MessageReader::default();
        let mut messages = reader.push(&stream[..cut]).unwrap();
        assert_eq!(reader.is_midway(), ![0, 6, 12].contains(&cut), "cut at {cut}");
        messages.extend(reader.push(&stream[cut..]).unwrap());
        let expected = [Message::NewSessionTicket, Message::NewSessionTicket, KEY_UPDATE];
        assert_eq!(messages, expected, "cut at {cut}");
        assert!(!reader.is_midway());
    }
}

#[test]
fn what_may_not_come_is_refused_with_the_right_alert() {
    for (bytes, alert) in [
        (&[24, 0, 0, 1, 2][..], "illegal_parameter"),
        (&[24, 0, 0, 0], "decode_error"),
        (&[24, 0, 0, 2, 0, 0], "decode_error"),
        (&[24, 0, 0, 1, 0, 4], "unexpected_message"), // keys change in mid-record
        (&[13, 0, 0, 0], "unexpected_message"),       // a late request for a certificate
        (&[1, 0, 0, 0], "unexpected_message"),        // renegotiation
        (&[4, 0, 0x40, 1], "decode_error"),           // a ticket over the limit
    ] {
        let fault = MessageReader::default().push(bytes).unwrap_err();
        assert_eq!(fault.alert.map(|alert| alert.to_string()).as_deref(), Some(alert), "{bytes:?}");
        assert!(matches!(fault.error, TlsError::Misbehaved(_)));
    }
}

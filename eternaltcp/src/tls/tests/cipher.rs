//! Single records, against the example of RFC 8448.

use ring::aead::{AES_128_GCM, Aad, LessSafeKey, Nonce, UnboundKey};

use crate::tls::cipher::{Keys, OpenFault, Opener, Sealer};
use crate::tls::record::{ContentType, Header, HeaderFault, protected_header};

/// "{client} derive write traffic keys for application data" of RFC 8448, section 3.
const KEY: &str = "17422dda596ed5d9acd890e3c63f5051";
const IV: &str = "5b78923dee08579033e523d9";

/// "{client} send application_data record" of RFC 8448, section 3.
const RFC8448_RECORD: &str = "1703030043a23f7054b62c94d0affafe8228ba55cbefacea42f914aa66bcab3f2b\
    9819a8a5b46b395bd54a9a20441e2b62974e1f5a6292a2977014bd1e3deae63aeebb21694915e4";

fn bytes(hex: &str) -> Vec<u8> {
    let byte = |at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
    (0..hex.len()).step_by(2).map(byte).collect()
}

fn keys(sequence: u64) -> Keys {
    Keys::from_parts(sequence, &AES_128_GCM, bytes(KEY), bytes(IV)).unwrap()
}

fn seal(sealer: &mut Sealer, content: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let record = Sealer::begin(&mut out, content.len());
    out.extend_from_slice(content);
    sealer.finish(record, ContentType::ApplicationData, &mut out).unwrap();
    out
}

/// A record whose protected content, type and padding included, is `inner`.
fn seal_inner(inner: &[u8]) -> Vec<u8> {
    let key = UnboundKey::new(&AES_128_GCM, &bytes(KEY)).unwrap();
    let nonce = bytes(IV);
    let header = protected_header(inner.len() + 16);
    let mut body = inner.to_vec();
    LessSafeKey::new(key)
        .seal_in_place_append_tag(
            Nonce::try_assume_unique_for_key(&nonce).unwrap(),
            Aad::from(header),
            &mut body,
        )
        .unwrap();
    [&header, &body[..]].concat()
}

#[test]
fn a_sealed_record_is_the_one_of_rfc_8448() {
    let content: Vec<u8> = (0..50).collect();
    let mut sealer = Sealer::new(keys(0));
    assert_eq!(seal(&mut sealer, &content), bytes(RFC8448_RECORD));
    assert_eq!(sealer.records(), 1);
}

#[test]
fn the_record_of_rfc_8448_is_opened_in_place() {
    let mut record = bytes(RFC8448_RECORD);
    let mut opener = Opener::new(keys(0));
    let (content, range) = opener.open(&mut record).unwrap();
    assert_eq!(content, ContentType::ApplicationData);
    assert_eq!(record[range], (0..50).collect::<Vec<u8>>()[..]);
}

#[test]
fn padding_is_removed_and_a_record_of_padding_alone_is_refused() {
    for (inner, expected) in [
        (&b"data\x17\0\0\0"[..], Ok((ContentType::ApplicationData, 5..9))),
        (b"\x17\0", Ok((ContentType::ApplicationData, 5..5))),
        (b"\0\0\0", Err(OpenFault::NoContent)),
        (b"data\x63", Err(OpenFault::NoContent)),
        (b"\x01\x14", Err(OpenFault::NoContent)),
    ] {
        let mut record = seal_inner(inner);
        let mut opener = Opener::new(keys(0));
        assert_eq!(opener.open(&mut record), expected, "{inner:?}");
    }
}

#[test]
fn a_record_is_opened_only_under_its_own_number() {
    let mut record = bytes(RFC8448_RECORD);
    let mut opener = Opener::new(keys(1));
    assert_eq!(opener.open(&mut record), Err(OpenFault::Forged));
}

#[test]
fn a_record_over_the_limit_is_neither_sealed_nor_left_behind() {
    let mut sealer = Sealer::new(keys(0));
    let mut out = b"before".to_vec();
    let record = Sealer::begin(&mut out, 16_385);
    out.resize(out.len() + 16_385, 0);
    assert!(sealer.finish(record, ContentType::ApplicationData, &mut out).is_none());
    assert_eq!(out, b"before");
}

#[test]
fn headers_are_judged_byte_by_byte() {
    let whole = [22, 3, 1, 1, 0];
    for length in 0..5 {
        assert_eq!(Header::parse(&whole[..length]), Ok(None));
    }
    assert_eq!(Header::parse(&whole).unwrap().unwrap().record_len(), 261);
    for not_tls in [&b"H"[..], b"SSH-2.0", &[22, 2], &[0], &[24, 3, 3, 0, 1]] {
        assert_eq!(Header::parse(not_tls), Err(HeaderFault::NotTls), "{not_tls:?}");
    }
    assert!(Header::parse(&[23, 3, 3, 0x41, 0x00]).unwrap().is_some());
    assert_eq!(Header::parse(&[23, 3, 3, 0x41, 0x01]), Err(HeaderFault::TooLong));
}

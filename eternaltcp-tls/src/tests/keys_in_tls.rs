//! The encoding of public keys in TLS, against keys that openssl and
//! ssh-keygen made.

use crate::PublicKey;

/// OpenSSH text, and the `SubjectPublicKeyInfo` that `openssl pkey -pubout` gives.
const KNOWN: [(&str, &str); 2] = [
    (
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ1vOpf2vwxSas41pQb55H4fZKpmH5GmX+Y4Ywt0XuT2",
        "302a300506032b65700321009d6f3a97f6bf0c526ace35a506f9e47e1f64aa661f91a65fe638630b745ee4f6",
    ),
    (
        "ecdsa-sha2-nistp256 AAAAE2VjZHNhLXNoYTItbmlzdHAyNTYAAAAIbmlzdHAyNTYAAABBBBwtIJ6qXL5w3C5I\
         4iN67V20hnB/xBcQbfGY77V+lqdSBqvvmdE9vrA3qooB+WasB/Ryqm+C/iT0U1oXpZ4dz9Y=",
        "3059301306072a8648ce3d020106082a8648ce3d030107034200041c2d209eaa5cbe70dc2e48e2237aed5d\
         b486707fc417106df198efb57e96a75206abef99d13dbeb037aa8a01f966ac07f472aa6f82fe24f4535a17\
         a59e1dcfd6",
    ),
];

fn bytes(hex: &str) -> Vec<u8> {
    let byte = |at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
    (0..hex.len()).step_by(2).map(byte).collect()
}

#[test]
fn known_keys_are_written_and_read_exactly() {
    for (openssh, spki) in KNOWN {
        let key = PublicKey::from_openssh(openssh).unwrap();
        assert_eq!(key.to_spki().unwrap(), bytes(spki));
        assert_eq!(PublicKey::from_spki(&bytes(spki)).unwrap(), key);
        assert_eq!(PublicKey::from_spki(&bytes(spki)).unwrap().to_string(), openssh);
    }
}

#[test]
fn anything_but_the_exact_bytes_is_refused() {
    for (_, spki) in KNOWN {
        let good = bytes(spki);
        for length in 0..good.len() {
            assert!(PublicKey::from_spki(&good[..length]).is_err(), "{length} bytes");
        }
        assert!(PublicKey::from_spki(&[&good[..], &[0]].concat()).is_err(), "a byte too many");
        let prefix = good.len() - if good.len() == 44 { 32 } else { 64 };
        for at in 0..prefix {
            let mut bad = good.clone();
            bad[at] ^= 1;
            assert!(PublicKey::from_spki(&bad).is_err(), "byte {at}");
        }
    }
}

#[test]
fn a_compressed_point_is_refused() {
    let good = bytes(KNOWN[1].1);
    // The same key with a point of 33 bytes, lengths adjusted: valid ASN.1, and not ours.
    let mut compressed = good[..26 + 33].to_vec();
    compressed[1] = 0x39;
    compressed[24] = 0x22;
    compressed[26] = 2;
    assert!(PublicKey::from_spki(&compressed).is_err());
}

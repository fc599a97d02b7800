//! Counted fields in the contents of announcements.

/// Appends a 16-bit count and that many bytes.
pub(crate) fn push_counted(content: &mut Vec<u8>, bytes: &[u8]) {
    let count = u16::try_from(bytes.len()).unwrap_or(u16::MAX);
    content.extend_from_slice(&count.to_le_bytes());
    content.extend_from_slice(&bytes[..usize::from(count)]);
}

/// Takes counted bytes from the beginning.
pub(crate) fn take_counted<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (count, behind) = rest.split_first_chunk()?;
    let (bytes, behind) = behind.split_at_checked(usize::from(u16::from_le_bytes(*count)))?;
    *rest = behind;
    Some(bytes)
}

//! Sizes of memory in flags.

const MIB: u64 = 1 << 20;

/// Parses a size into bytes. A bare number means MiB. As in GNU programs, K, M, G and T, also
/// with iB, are powers of 1024, and kB, MB, GB and TB are powers of 1000.
pub(super) fn parse_size(text: &str) -> Result<u64, String> {
    let malformed = || {
        let shown: String = text.chars().take(40).collect();
        format!(
            "{shown:?} is not an amount of memory: write a number of MiB, or one with its unit, as in 512M, \
             4G or 1.5GiB"
        )
    };
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let unit = unit_of(unit.trim_start()).ok_or_else(malformed)?;
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    let is_number = |digits: &str| {
        (1..=12).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit())
    };
    if !is_number(whole) || !is_number(fraction) {
        return Err(malformed());
    }
    let read = |digits: &str| digits.parse::<u128>().map_err(|_| malformed());
    let scale = 10_u128.pow(u32::try_from(fraction.len()).unwrap_or(0));
    let bytes = read(whole)? * u128::from(unit) + read(fraction)? * u128::from(unit) / scale;
    u64::try_from(bytes).map_err(|_| format!("{text:?} is too much memory"))
}

fn unit_of(text: &str) -> Option<u64> {
    let lower = text.to_ascii_lowercase();
    let power = match lower.chars().next() {
        None => return Some(MIB),
        Some('b') => 0,
        Some('k') => 1,
        Some('m') => 2,
        Some('g') => 3,
        Some('t') => 4,
        Some(_) => return None,
    };
    match &lower[1..] {
        "" | "ib" if power > 0 => Some(1024_u64.pow(power)),
        "b" if power > 0 => Some(1000_u64.pow(power)),
        "" => Some(1),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_unit_is_read() {
        for (text, bytes) in [
            ("64", 64 * MIB),
            ("4G", 4096 * MIB),
            ("4g", 4096 * MIB),
            ("4GiB", 4096 * MIB),
            ("4 gib", 4096 * MIB),
            ("4GB", 4_000_000_000),
            ("4gb", 4_000_000_000),
            ("1.5G", 1536 * MIB),
            ("0.25GiB", 256 * MIB),
            ("512M", 512 * MIB),
            ("512MB", 512_000_000),
            ("8192K", 8 * MIB),
            ("8192kib", 8 * MIB),
            ("9000kB", 9_000_000),
            ("1T", 1 << 40),
            ("1tb", 1_000_000_000_000),
            ("8388608B", 8 * MIB),
        ] {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
        }
    }

    #[test]
    fn a_text_that_is_not_an_amount_is_refused() {
        for text in [
            "", "G", ".5G", "5.G", "1.2.3G", "-1", "+1", "4X", "4GG", "4Gi", "4 G B", "4,5G",
            "1e3", "half",
        ] {
            let error = parse_size(text).unwrap_err();
            assert!(error.contains("512M, 4G or 1.5GiB"), "{text:?}: {error}");
        }
        assert!(parse_size("999999999999T").unwrap_err().contains("too much"));
    }
}

//! The fuzz body of the DNS messages, which tests run on seeded input and `fuzz/` with its own.

use super::message::{addresses, failure, fit};

/// Reads the front as a query and the rest as its response: the first byte is the length of the
/// query. Returns whether either was understood.
pub(super) fn dns(data: &[u8]) -> bool {
    let (size, rest) = data.split_first().unwrap_or((&0, &[]));
    let (query, response) = rest.split_at(usize::from(*size).min(rest.len()));
    let failed = failure(query);
    if let Some(failed) = &failed {
        assert_eq!(failed.get(..2), query.get(..2), "the response has another id");
    }
    let fits = fit(query, response.to_vec());
    if response.len() <= 512 {
        assert_eq!(fits.as_deref(), Some(response), "everybody takes as much");
    }
    failed.is_some() || addresses(response).is_some()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    #[test]
    fn no_dns_message_makes_its_parser_panic() {
        let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus/dns");
        eternaltcp::fuzz::seeded::run(super::dns, &corpus, 5000);
    }
}

//! The page for people: one file without anything from elsewhere.

use std::sync::LazyLock;

use base64ct::{Base64, Encoding};
use sha2::{Digest, Sha256};

/// The page.
pub(super) const PAGE: &str = include_str!("page.html");

/// The policy that the page is sent with (Content-Security-Policy): only its own script and style, no
/// other origin, and no text that becomes HTML.
pub(super) static POLICY: LazyLock<String> = LazyLock::new(|| {
    format!(
        "default-src 'none'; script-src '{}'; style-src '{}'; connect-src 'self'; img-src data:; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'; \
         require-trusted-types-for 'script'; trusted-types 'none'",
        hash_of("script"),
        hash_of("style")
    )
});

/// Returns the hash of the contents of the page's only element with this name.
fn hash_of(element: &str) -> String {
    let (start, end) = (format!("<{element}>"), format!("</{element}>"));
    let contents = PAGE.split_once(&start).and_then(|(_, rest)| rest.split_once(&end));
    let contents = contents.map_or("", |(contents, _)| contents);
    format!("sha256-{}", Base64::encode_string(&Sha256::digest(contents)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_is_one_file_that_needs_nothing_else() {
        for element in ["script", "style"] {
            assert_eq!(PAGE.matches(&format!("<{element}")).count(), 1, "{element}");
        }
        for foreign in
            ["src=", "@import", "url(", "innerHTML", "document.write", " style=", "eval("]
        {
            assert!(!PAGE.contains(foreign), "{foreign}");
        }
        let links: Vec<_> =
            PAGE.match_indices("href=\"").map(|(at, it)| &PAGE[at + it.len()..]).collect();
        let is_own = |link: &&str| ["#", "/", "data:"].iter().any(|it| link.starts_with(it));
        assert!(links.iter().all(is_own), "{links:?}");
        // The hash of an empty text.
        assert!(!POLICY.contains("47DEQpj8HBSa"), "{}", *POLICY);
    }
}

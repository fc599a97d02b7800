//! The filter of the log. `RUST_LOG` may be meant for other programs, so directives that cannot be
//! parsed are ignored.

use tracing_subscriber::filter::{LevelFilter, Targets};

/// Parses `text` on top of a default, which a level alone replaces. Also returns the first
/// directive that cannot be parsed.
pub(super) fn read(text: &str, default: LevelFilter) -> (Targets, Option<&str>) {
    let mut filter = Targets::new().with_default(default);
    let mut odd = None;
    for part in parts(text) {
        match part.parse::<Targets>() {
            Ok(read) => {
                let targets = read.iter().map(|(target, level)| (target.to_owned(), level));
                filter = filter.with_targets(targets);
                if let Some(level) = read.default_level() {
                    filter = filter.with_default(level);
                }
            }
            Err(_) => odd = odd.or(Some(part)),
        }
    }
    (filter, odd)
}

/// Splits at commas outside brackets: `app[span{x=1,y=2}]=debug` is one part.
fn parts(text: &str) -> impl Iterator<Item = &str> {
    let mut depth = 0_usize;
    let is_between = move |c| {
        match c {
            '[' | '{' => depth += 1,
            ']' | '}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        c == ',' && depth == 0
    };
    text.split(is_between).map(str::trim).filter(|part| !part.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use tracing::Level;

    fn logs(text: &str) -> (bool, bool) {
        let (filter, _) = read(text, LevelFilter::INFO);
        let of = |level| filter.would_enable("eternaltcp::client", &level);
        (of(Level::INFO), of(Level::DEBUG))
    }

    #[test]
    fn directives_for_other_crates_change_nothing() {
        for text in [
            "",
            ",, ,",
            "hyper=debug",
            "app[span{x=1,y=2}]=debug",
            "[span]=trace",
            "foo=verbose",
            "eternaltcp=loud",
            "a=b=c",
            "sqlx::query=off,tower_http",
            "\u{1f980}",
        ] {
            assert_eq!(logs(text), (true, false), "{text:?}");
        }
    }

    #[test]
    fn a_level_and_what_is_said_of_this_program_count() {
        assert_eq!(logs("debug"), (true, true));
        assert_eq!(logs("warn,foo=verbose"), (false, false));
        assert_eq!(logs("hyper=trace,eternaltcp=debug"), (true, true));
        assert_eq!(logs("off"), (false, false));
    }

    #[test]
    fn the_first_part_that_is_not_understood_is_reported() {
        assert_eq!(read("info,foo=verbose,x=y", LevelFilter::INFO).1, Some("foo=verbose"));
        assert_eq!(read("info,foo=debug", LevelFilter::INFO).1, None);
    }
}

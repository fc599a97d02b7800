//! The two forms in which metrics are given: OpenMetrics, and the older text of Prometheus, which
//! `promtool check metrics` reads.

use std::fmt;

use prometheus_client::encoding::{prometheus_text, text};
use prometheus_client::registry::Registry;

use super::FigureSource;
use super::families::{RESTARTS, unix_seconds};

/// A form of the metrics.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum MetricsForm {
    OpenMetrics,
    Prometheus,
}

impl MetricsForm {
    /// Returns the form for a client that accepts these types.
    pub(super) fn for_client(accepts: &str) -> Self {
        let is_open = accepts.split(',').any(|kind| {
            kind.split(';').next().is_some_and(|it| it.trim() == "application/openmetrics-text")
        });
        if is_open { Self::OpenMetrics } else { Self::Prometheus }
    }

    pub(super) fn content_type(self) -> &'static str {
        match self {
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Prometheus => prometheus_text::CONTENT_TYPE,
        }
    }

    /// Returns the present metrics.
    pub(super) fn render(self, source: &FigureSource) -> Result<String, fmt::Error> {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(source.clone()));
        let mut page = String::new();
        match self {
            Self::Prometheus => prometheus_text::encode(&mut page, &registry)?,
            Self::OpenMetrics => {
                text::encode(&mut page, &registry)?;
                let since = source.subject.totals().since;
                page = with_created(&page, |family| {
                    unix_seconds(if family == RESTARTS { source.started_at } else { since })
                });
            }
        }
        Ok(page)
    }
}

/// Adds to each counter and histogram since when it counts, which the library does not.
fn with_created(page: &str, since: impl Fn(&str) -> f64) -> String {
    let (mut out, mut family, mut suffix) = (String::with_capacity(page.len() * 3 / 2), "", "");
    for line in page.lines() {
        out += line;
        out.push('\n');
        if let Some(declared) = line.strip_prefix("# TYPE ") {
            let (name, kind) = declared.split_once(' ').unwrap_or((declared, ""));
            family = name;
            suffix = match kind {
                "counter" => "_total",
                "histogram" => "_count",
                _ => "",
            };
        }
        let sample = line.strip_prefix(family).and_then(|rest| rest.strip_prefix(suffix));
        if let Some(sample) = sample.filter(|_| !suffix.is_empty()) {
            let labels = sample.rsplit_once(' ').map_or("", |(labels, _)| labels);
            out += &format!("{family}_created{labels} {:.3}\n", since(family));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_form_is_the_one_that_the_client_asks_for() {
        // Of Prometheus 2.42, and of a browser.
        let prometheus = "application/openmetrics-text;version=1.0.0,application/openmetrics-text;\
                          version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
        assert_eq!(MetricsForm::for_client(prometheus), MetricsForm::OpenMetrics);
        for other in ["", "*/*", "text/html,application/xhtml+xml", "text/plain;version=0.0.4"] {
            assert_eq!(MetricsForm::for_client(other), MetricsForm::Prometheus);
        }
    }

    #[test]
    fn counters_and_histograms_say_since_when_they_count() {
        let page = "# HELP a Words.\n# TYPE a counter\na_total{x=\"1\"} 5\na_total{x=\"2\"} 6\n\
                    # TYPE b gauge\nb 1\n# TYPE c histogram\nc_sum 1.0\nc_count 2\n\
                    c_bucket{le=\"+Inf\"} 2\n# EOF\n";
        let expected = "# HELP a Words.\n# TYPE a counter\na_total{x=\"1\"} 5\n\
                        a_created{x=\"1\"} 1.500\na_total{x=\"2\"} 6\na_created{x=\"2\"} 1.500\n\
                        # TYPE b gauge\nb 1\n# TYPE c histogram\nc_sum 1.0\nc_count 2\n\
                        c_created 2.500\nc_bucket{le=\"+Inf\"} 2\n# EOF\n";
        let since = |family: &str| if family == "a" { 1.5 } else { 2.5 };
        assert_eq!(with_created(page, since), expected);
    }
}

//! The report: findings, as lines for people or as JSON.

use std::collections::BTreeMap;
use std::fmt;

use eternaltcp::clean;
use eternaltcp::report::counted;
use serde::Serialize;

use super::hidden::HiddenWords;
use crate::exit::ExitError;
use crate::logging::escape_json;
use crate::print;

/// The version of the JSON.
const VERSION: u32 = 1;

/// The width of the columns for the mark and for the check.
const MARK: usize = 5;
const CHECK: usize = 11;

/// The result of a check.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Mark {
    /// All is well.
    Ok,
    /// Worth knowing, and no problem by itself.
    Note,
    /// A problem.
    Fail,
    /// Not checked, for the reason in the text.
    Skip,
}

impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Ok => "ok",
            Self::Note => "note",
            Self::Fail => "FAIL",
            Self::Skip => "skip",
        })
    }
}

/// The finding of one check.
#[derive(Clone, Debug, Serialize)]
struct Finding {
    check: &'static str,
    result: Mark,
    text: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    advice: Option<String>,
    /// Measured values, each with its unit in its name.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    values: BTreeMap<&'static str, f64>,
}

/// The output of `--json`.
#[derive(Serialize)]
struct DoctorDocument<'a> {
    version: u32,
    server: &'a str,
    ok: bool,
    findings: &'a [Finding],
}

/// The findings so far. Lines for people are printed at once.
#[derive(Debug)]
pub(super) struct DoctorReport {
    is_json: bool,
    hidden: HiddenWords,
    findings: Vec<Finding>,
    /// The first line that could not be printed.
    trouble: Option<ExitError>,
}

impl DoctorReport {
    pub(super) fn new(is_json: bool, is_hiding: bool) -> Self {
        let hidden = HiddenWords::new(is_hiding);
        Self { is_json, hidden, findings: Vec::new(), trouble: None }
    }

    /// Replaces this name by a placeholder from now on, if names are hidden.
    pub(super) fn hide(&mut self, kind: &'static str, word: &str) {
        self.hidden.add(kind, word);
    }

    pub(super) fn ok(&mut self, check: &'static str, text: impl Into<String>) {
        self.add(check, Mark::Ok, text.into(), None, &[]);
    }

    pub(super) fn skip(&mut self, check: &'static str, text: impl Into<String>) {
        self.add(check, Mark::Skip, text.into(), None, &[]);
    }

    pub(super) fn note(&mut self, check: &'static str, text: impl Into<String>, advice: &str) {
        self.add(check, Mark::Note, text.into(), Some(advice.to_owned()), &[]);
    }

    pub(super) fn fail(&mut self, check: &'static str, text: impl Into<String>, advice: &str) {
        self.add(check, Mark::Fail, text.into(), Some(advice.to_owned()), &[]);
    }

    /// Adds a good result with measured values.
    pub(super) fn measured(
        &mut self,
        check: &'static str,
        text: impl Into<String>,
        values: &[(&'static str, f64)],
    ) {
        self.add(check, Mark::Ok, text.into(), None, values);
    }

    fn add(
        &mut self,
        check: &'static str,
        result: Mark,
        text: String,
        advice: Option<String>,
        values: &[(&'static str, f64)],
    ) {
        let shown = |text: &str| self.hidden.replace(&clean(text));
        let finding = Finding {
            check,
            result,
            text: shown(&text),
            advice: advice.filter(|advice| !advice.is_empty()).map(|advice| shown(&advice)),
            values: values.iter().copied().collect(),
        };
        if !self.is_json {
            self.print(&line(&finding));
        }
        self.findings.push(finding);
    }

    /// Prints what precedes the findings.
    pub(super) fn begin(&mut self, title: &str) {
        if !self.is_json {
            let title = self.hidden.replace(title);
            self.print(&format!("etcp doctor {title}\n"));
        }
    }

    fn print(&mut self, text: &str) {
        if self.trouble.is_none() {
            self.trouble = print::all(text).err();
        }
    }

    /// Ends the report.
    ///
    /// # Errors
    /// There is a problem, or the report could not be printed.
    pub(super) fn end(mut self, server: &str) -> Result<(), ExitError> {
        let server = self.hidden.replace(server);
        let problems = self.checks_with(Mark::Fail);
        if self.is_json {
            let (ok, findings) = (problems.is_empty(), &self.findings[..]);
            let document = DoctorDocument { version: VERSION, server: &server, ok, findings };
            let text = serde_json::to_string(&document).map_err(ExitError::failed)?;
            self.print(&format!("{}\n", escape_json(&text)));
        } else if problems.is_empty() {
            self.print("All is well.\n");
        }
        if let Some(trouble) = self.trouble {
            return Err(trouble);
        }
        if problems.is_empty() {
            return Ok(());
        }
        let count = counted(problems.len() as u64, "problem", "problems");
        let text = format!(
            "{count} with {server} ({}): see what the report says to do",
            problems.join(", ")
        );
        Err(ExitError::Failed(text))
    }

    /// Returns the checks with this result.
    fn checks_with(&self, mark: Mark) -> Vec<&'static str> {
        let with = self.findings.iter().filter(|finding| finding.result == mark);
        with.map(|finding| finding.check).collect()
    }
}

/// Formats a finding for people.
fn line(finding: &Finding) -> String {
    let Finding { check, result, text, advice, .. } = finding;
    let mut line = format!("{result:<MARK$} {check:<CHECK$} {text}\n");
    if let Some(advice) = advice {
        line += &format!("{:indent$} -> {advice}\n", "", indent = MARK + 1 + CHECK);
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_its_mark_in_front_and_its_advice_below() {
        let finding = Finding {
            check: "port",
            result: Mark::Fail,
            text: "refused".to_owned(),
            advice: Some("start it".to_owned()),
            values: BTreeMap::new(),
        };
        let expected = "FAIL  port        refused\n                  -> start it\n";
        assert_eq!(line(&finding), expected);
    }

    #[test]
    fn problems_are_counted_and_named_in_the_error() {
        let mut report = DoctorReport::new(true, true);
        report.hide("HOST", "db.test");
        report.fail("port", "db.test refused", "start it");
        report.ok("name", "fine");
        let Err(ExitError::Failed(text)) = report.end("db.test:6200") else { panic!("it is well") };
        assert_eq!(text, "1 problem with HOST-1:6200 (port): see what the report says to do");
    }
}

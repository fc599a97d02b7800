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
    /// A fact that is worth knowing and is not a problem by itself.
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

/// The output of `--json` about one server that has no name.
#[derive(Serialize)]
struct DoctorDocument<'a> {
    version: u32,
    #[serde(flatten)]
    examined: &'a ExaminedServer,
}

/// The output of `--json` about servers that have names.
#[derive(Serialize)]
struct ServersDocument<'a> {
    version: u32,
    ok: bool,
    servers: &'a [ExaminedServer],
}

/// The findings about one server.
#[derive(Debug, Serialize)]
struct ExaminedServer {
    /// Its name in the configuration file, if that has several.
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    /// Its addresses.
    server: String,
    ok: bool,
    findings: Vec<Finding>,
}

impl ExaminedServer {
    /// Returns its name and its addresses.
    fn title(&self) -> String {
        match &self.name {
            Some(name) => format!("{name} ({})", self.server),
            None => self.server.clone(),
        }
    }

    /// Returns the checks that failed.
    fn problems(&self) -> Vec<&'static str> {
        let failed = self.findings.iter().filter(|finding| finding.result == Mark::Fail);
        failed.map(|finding| finding.check).collect()
    }
}

/// The findings so far. Lines for people are printed at once.
#[derive(Debug)]
pub(super) struct DoctorReport {
    is_json: bool,
    hidden: HiddenWords,
    /// The servers so far; findings are about the last one.
    servers: Vec<ExaminedServer>,
    /// The first line that could not be printed.
    trouble: Option<ExitError>,
}

impl DoctorReport {
    pub(super) fn new(is_json: bool, is_hiding: bool) -> Self {
        let hidden = HiddenWords::new(is_hiding);
        Self { is_json, hidden, servers: Vec::new(), trouble: None }
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
        if let Some(examined) = self.servers.last_mut() {
            examined.ok &= result != Mark::Fail;
            examined.findings.push(finding);
        }
    }

    /// Begins the findings about a server.
    pub(super) fn begin(&mut self, name: Option<&str>, server: &str) {
        let name = name.map(|name| self.hidden.replace(name));
        let server = self.hidden.replace(server);
        let examined = ExaminedServer { name, server, ok: true, findings: Vec::new() };
        if !self.is_json {
            let above = if self.servers.is_empty() { "" } else { "\n" };
            self.print(&format!("{above}etcp doctor {}\n", examined.title()));
        }
        self.servers.push(examined);
    }

    /// Ends the findings about a server.
    pub(super) fn close(&mut self) {
        if !self.is_json && self.servers.last().is_some_and(|examined| examined.ok) {
            self.print("All is well.\n");
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
    pub(super) fn end(mut self) -> Result<(), ExitError> {
        if self.is_json {
            let text = self.json().map_err(ExitError::failed)?;
            self.print(&format!("{}\n", escape_json(&text)));
        }
        if let Some(trouble) = self.trouble.take() {
            return Err(trouble);
        }
        self.verdict().map_or(Ok(()), |text| Err(ExitError::Failed(text)))
    }

    fn json(&self) -> serde_json::Result<String> {
        let servers = &self.servers[..];
        if let [examined @ ExaminedServer { name: None, .. }] = servers {
            return serde_json::to_string(&DoctorDocument { version: VERSION, examined });
        }
        let ok = servers.iter().all(|examined| examined.ok);
        serde_json::to_string(&ServersDocument { version: VERSION, ok, servers })
    }

    /// Returns the line about all problems, if there are any.
    fn verdict(&self) -> Option<String> {
        let ill: Vec<_> = self.servers.iter().filter(|examined| !examined.ok).collect();
        let count = ill.iter().map(|examined| examined.problems().len()).sum::<usize>();
        let count = counted(count as u64, "problem", "problems");
        let of = |it: &&ExaminedServer| format!("{} ({})", it.title(), it.problems().join(", "));
        Some(match (&ill[..], self.servers.len()) {
            ([], _) => return None,
            ([one], 1) => format!("{count} with {}: see what the report says to do", of(one)),
            _ => {
                let all: Vec<_> = ill.iter().map(of).collect();
                let (ill, of_all) = (ill.len(), self.servers.len());
                let all = all.join("; ");
                format!(
                    "{count} with {ill} of {of_all} servers: {all}: see what the report says to do"
                )
            }
        })
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
        report.begin(None, "db.test:6200");
        report.fail("port", "db.test refused", "start it");
        report.ok("name", "fine");
        let Err(ExitError::Failed(text)) = report.end() else { panic!("it is well") };
        assert_eq!(text, "1 problem with HOST-1:6200 (port): see what the report says to do");
    }
    #[test]
    fn servers_with_names_are_told_apart() {
        let mut report = DoctorReport::new(true, true);
        report.hide("SERVER", "office");
        for (name, problems) in [("office", 0), ("home", 2), ("away", 1)] {
            report.begin(Some(name), "192.0.2.7:6200");
            (0..problems).for_each(|_| report.fail("port", "refused", ""));
        }
        let json: serde_json::Value = serde_json::from_str(&report.json().unwrap()).unwrap();
        assert_eq!((&json["version"], &json["ok"]), (&1.into(), &false.into()));
        let server = &json["servers"][0];
        assert_eq!((&server["name"], &server["ok"]), (&"SERVER-1".into(), &true.into()));
        assert_eq!(json["servers"][1]["findings"][1]["check"], "port");
        let expected = "3 problems with 2 of 3 servers: home (ADDRESS-1:6200) (port, port); \
                        away (ADDRESS-1:6200) (port): see what the report says to do";
        assert_eq!(report.verdict().as_deref(), Some(expected));
    }
}

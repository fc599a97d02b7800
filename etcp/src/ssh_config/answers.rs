//! Answers of `ssh -G` that one program passes on to the next one, which then starts without ssh.
//!
//! The check of a program that is to take over asks ssh, while the old program still serves.

use std::ffi::{OsStr, OsString};
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};

/// The maximum size of the answers that are passed on, in bytes.
const MAX_PASSED_ON: usize = 32 * 1024;

static ANSWERS: Mutex<Answers> = Mutex::new(Answers { known: Vec::new(), given: Vec::new() });

/// The answer of ssh to one question.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct SshAnswer {
    /// The options, and the host.
    question: Vec<String>,
    stdout: String,
}

struct Answers {
    /// The answers that the program before this one has passed on.
    known: Vec<SshAnswer>,
    /// The answers that ssh has given to this process.
    given: Vec<SshAnswer>,
}

/// Takes the answers that the program before this one has passed on.
pub(crate) fn learn(answers: Vec<SshAnswer>) {
    ANSWERS.lock().unwrap_or_else(PoisonError::into_inner).known = answers;
}

/// Returns the answers that ssh has given to this process, or nothing if they are long: then the
/// next program asks ssh again.
pub(crate) fn given() -> Vec<SshAnswer> {
    let given = ANSWERS.lock().unwrap_or_else(PoisonError::into_inner).given.clone();
    let size: usize = given.iter().map(SshAnswer::size).sum();
    if size <= MAX_PASSED_ON { given } else { Vec::new() }
}

/// Returns the answer to a question, if the program before this one knew it.
pub(super) fn known(options: &[OsString], host: &OsStr) -> Option<String> {
    let question = question(options, host)?;
    let answers = ANSWERS.lock().unwrap_or_else(PoisonError::into_inner);
    answers.known.iter().find(|it| it.question == question).map(|it| it.stdout.clone())
}

/// Records an answer of ssh.
pub(super) fn record(options: &[OsString], host: &OsStr, stdout: &str) {
    let Some(question) = question(options, host) else { return };
    let answer = SshAnswer { question, stdout: stdout.to_owned() };
    ANSWERS.lock().unwrap_or_else(PoisonError::into_inner).given.push(answer);
}

impl SshAnswer {
    fn size(&self) -> usize {
        self.question.iter().map(String::len).sum::<usize>() + self.stdout.len()
    }
}

fn question(options: &[OsString], host: &OsStr) -> Option<Vec<String>> {
    let words = options.iter().map(OsString::as_os_str).chain([host]);
    words.map(|word| word.to_str().map(str::to_owned)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_program_knows_the_answers_to_the_same_questions_only() {
        let options = [OsString::from("-oA=b")];
        record(&options, "one".as_ref(), "hostname one\n");
        let given: Vec<_> = given().into_iter().filter(|it| it.question[0] == "-oA=b").collect();
        assert_eq!(given.len(), 1);
        assert_eq!(known(&options, "one".as_ref()), None, "it was not passed on");
        learn(given);
        assert_eq!(known(&options, "one".as_ref()).as_deref(), Some("hostname one\n"));
        assert_eq!(known(&options, "two".as_ref()), None);
        assert_eq!(known(&[], "one".as_ref()), None);
    }
}
